# SPDX-License-Identifier: GPL-3.0-or-later
"""Three managers: the leader's plug is pulled under a writing client; all reboot at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Cluster

pytestmark = pytest.mark.lab

#: Runs on a manager: creates services w1, w2, ... with the docker client and logs each name once it is acknowledged.
WRITER = f"""
n=0
while [ ! -e /tmp/stop ]; do
  n=$((n + 1))
  if timeout 20 docker -H unix://{SOCKET} service create --detach --name w$n --replicas 0 IMAGE >/dev/null 2>&1
  then echo w$n >> /tmp/acknowledged; fi
done
"""


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    names = ["red", "green", "blue"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 3)
    yield cluster
    cluster.lab.remove(names)


def leader(cluster: Cluster) -> Host:
    found = [name for name, node in cluster.nodes().items() if node.get("ManagerStatus", {}).get("Leader")]
    assert len(found) == 1
    return cluster.host(found[0])


def acknowledged(writer: Host) -> list[str]:
    return writer.ssh("cat /tmp/acknowledged 2>/dev/null || true").out.split()


def test_no_acknowledged_write_is_lost_with_the_leader(cluster: Cluster) -> None:
    lost = leader(cluster)
    living = [host for host in cluster.hosts if host.name != lost.name]
    writer = living[0]
    before = {host.name: cluster.containers(host) for host in living}
    writer.ssh("rm -f /tmp/stop /tmp/acknowledged")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.ssh, WRITER.replace("IMAGE", cluster.image()), timeout=180)
        wait_until(lambda: len(acknowledged(writer)) >= 10, 60, "the writer to write")
        lost.plug()
        at_loss = len(acknowledged(writer))
        wait_until(lambda: len(acknowledged(writer)) >= at_loss + 10, 60, "writes to go on under another leader")
        writer.ssh("touch /tmp/stop")
        writing.result()
    assert leader(cluster).name != lost.name
    assert {host.name: cluster.containers(host) for host in living} == before
    lost.boot()
    names = set(acknowledged(writer))
    assert len(names) >= 20
    for host in cluster.hosts:

        def complete(host: Host = host) -> bool:
            found = cluster.get("/services?consistency=stale", on=host)
            return isinstance(found, list) and names <= {service["Spec"]["Name"] for service in found}

        wait_until(complete, 60, f"every acknowledged write to be on {host.name}")


def test_everything_comes_back_after_all_managers_rebooted(cluster: Cluster) -> None:
    cluster.wait_running("web", 3, 90)
    ids = {name: node["ID"] for name, node in cluster.nodes().items()}
    services = {service["ID"] for service in cluster.get("/services")}
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Host.reboot, cluster.hosts))

    def back() -> bool:
        nodes = cluster.get("/nodes")
        return isinstance(nodes, list) and all(node["Status"]["State"] == "ready" for node in nodes)

    wait_until(back, 60, "all nodes to be ready again")
    assert {name: node["ID"] for name, node in cluster.nodes().items()} == ids
    assert {service["ID"] for service in cluster.get("/services")} == services
    cluster.wait_running("web", 3, 60)
    for host in cluster.hosts:
        # What the state says may still be from before the reboot; the engine knows.
        wait_until(lambda host=host: len(cluster.containers(host, everything=False)) == 1, 60, f"one on {host.name}")
