# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents and engines restart under a request loop: no container is touched, no request fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster
from covey_shows.traffic import PORT, undisturbed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", autouse=True)
def web(cluster: Cluster) -> Iterator[None]:
    """One container on each host that answers on a port of the host."""
    publish = f"published={PORT},target=8080,mode=host"
    flags = ("--name", "web", "--mode", "global", "--publish", publish)
    cluster.docker("service", "create", "--detach", *flags, cluster.image())
    cluster.wait_running("web", 3)
    yield
    cluster.docker("service", "rm", "web")
    wait_until(lambda: not any(cluster.everything().values()), 40, "every container of web to be gone")


def settled(cluster: Cluster) -> bool:
    nodes = cluster.nodes().values()
    return len(cluster.tasks("web")) == 3 and all(node["Status"]["State"] == "ready" for node in nodes)


@pytest.mark.parametrize("unit", ["covey", "docker"])
@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_a_restart_goes_unnoticed(cluster: Cluster, unit: str, name: str) -> None:
    with undisturbed(cluster):
        cluster.host(name).ssh(f"systemctl restart {unit}")
        wait_until(lambda: settled(cluster), 40, "the cluster to be whole again")


@pytest.fixture
def patience(cluster: Cluster) -> Iterator[None]:
    """Heartbeats so slow that an agent that hangs is back before its node counts as lost."""
    cluster.docker("swarm", "update", "--dispatcher-heartbeat", "10s")
    yield
    cluster.docker("swarm", "update", "--dispatcher-heartbeat", "2s")
    wait_until(lambda: settled(cluster), 40, "the cluster to be whole again")


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", ["one", "two"])
def test_an_agent_that_hangs_is_started_anew(cluster: Cluster, name: str) -> None:
    host = cluster.host(name)

    def shown(what: str) -> str:
        return host.ssh(f"systemctl show --property={what} --value covey").out.strip()

    restarts, invocation = int(shown("NRestarts")), shown("InvocationID")
    with undisturbed(cluster):
        host.ssh(f"kill -STOP {shown('MainPID')}")
        wait_until(lambda: int(shown("NRestarts")) == restarts + 1, 30, "systemd to start the agent anew")
        wait_until(lambda: settled(cluster), 40, "the cluster to be whole again")
    said = host.ssh(f"journalctl --output=cat INVOCATION_ID={invocation} + _SYSTEMD_INVOCATION_ID={invocation}").out
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said  # and where each thread was


#: A host so busy that its agent takes longer to start than a silent node is waited for.
SLOW = "/run/systemd/system/covey.service.d/slow.conf"


@pytest.fixture
def slow(cluster: Cluster) -> Iterator[Host]:
    host = cluster.host("two")
    host.ssh(f"mkdir -p $(dirname {SLOW}); printf '[Service]\\nExecStartPre=/bin/sleep 15\\n' > {SLOW}")
    host.ssh("systemctl daemon-reload")
    yield host
    host.ssh(f"rm {SLOW}; systemctl daemon-reload; systemctl start covey")
    wait_until(lambda: settled(cluster), 60, "the cluster to be whole again")


def test_a_restart_that_takes_long_moves_nothing_since_it_was_announced(cluster: Cluster, slow: Host) -> None:
    with undisturbed(cluster):
        slow.ssh("systemctl restart covey")
        wait_until(lambda: settled(cluster), 40, "the cluster to be whole again")


def test_an_agent_that_is_stopped_is_not_waited_for_longer(cluster: Cluster, slow: Host) -> None:
    slow.ssh("systemctl stop covey")
    wait_until(lambda: cluster.nodes()["two"]["Status"]["State"] == "down", 15, "two to count as lost")


def test_the_loop_would_notice(cluster: Cluster) -> None:
    host = cluster.host("two")
    container = next(iter(cluster.containers(host)))
    with pytest.raises(AssertionError), undisturbed(cluster):  # noqa: PT012 - the block is what must be noticed
        host.ssh(f"docker restart -t 0 {container}")
        wait_until(lambda: settled(cluster), 60, "the cluster to be whole again")
    wait_until(lambda: settled(cluster), 60, "the cluster to be whole again")
