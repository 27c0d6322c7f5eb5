# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages on managers, backup and restore, followed by hand: what is typed is what they say.

One cluster lives through all of it; the tests build on each other in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster
from covey_shows.guide import follow

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
PASSPHRASE = "seven tired owls at night"


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    names = ["bay", "fir", "yew"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 3)
    yield cluster
    cluster.lab.remove(names)


def listed(cluster: Cluster) -> list[tuple[str, str, str]]:
    """Of each node that `docker node ls` shows: host name, state, what it is as a manager."""
    out = cluster.docker("node", "ls", "--format", "{{.Hostname}}/{{.Status}}/{{.ManagerStatus}}")
    return sorted((name, state, managing) for name, state, managing in (line.split("/") for line in out.split()))


def voting(cluster: Cluster) -> list[str]:
    return [name for name, _, managing in listed(cluster) if managing in {"Leader", "Reachable"}]


def address(cluster: Cluster, host: Host) -> str:
    """By which the others know it."""
    return str(cluster.nodes()[host.name]["ManagerStatus"]["Addr"])


def join(cluster: Cluster, host: Host) -> None:
    """Let it in as the page says: by the line that a manager shows."""
    shown = follow("managers.md", "docker swarm join-token manager", cluster.manager).out
    (line,) = (line.strip() for line in shown.splitlines() if line.strip().startswith("docker swarm join --token"))
    host.ssh(f"export DOCKER_HOST=unix:///run/covey/covey.sock; {line}")


def agent_only(cluster: Cluster, *names: str) -> None:
    cluster.play(str(HERE / "agent_only.yml"), "--limit", ",".join(names))


def test_a_manager_moves_to_another_address(cluster: Cluster) -> None:
    cluster.contact = "bay"
    node = cluster.nodes()["yew"]["ID"]
    yew = cluster.lab.move("yew")
    yew.boot()
    warned = "this host does not have the address"
    wait_until(lambda: warned in yew.ssh("journalctl -u covey").out, 30, "the agent to say what is wrong")
    follow("managers.md", "sed -i '/^advertise_addr/d' /etc/covey/coveyd.toml", yew)
    edit = "echo 'advertise_addr = \"192.0.2.13\"' >> /etc/covey/coveyd.toml"
    follow("managers.md", edit, yew, {"192.0.2.13": yew.address})
    follow("managers.md", "systemctl restart covey", yew)
    cluster.wait_managers()
    assert address(cluster, yew) == f"{yew.address}:2377"
    assert cluster.nodes()["yew"]["ID"] == node
    cluster.wait_running("web", 3)


def test_the_playbook_moves_one(cluster: Cluster) -> None:
    cluster.contact = "yew"
    before = {name: node["ID"] for name, node in cluster.nodes().items()}
    bay = cluster.lab.move("bay")
    bay.boot()
    play = cluster.site()
    assert play.changed["fir"] == 0
    cluster.wait_managers()
    assert address(cluster, bay) == f"{bay.address}:2377"
    assert {name: node["ID"] for name, node in cluster.nodes().items()} == before
    cluster.wait_running("web", 3)
    assert not any(cluster.site().changed.values())


def test_a_dead_manager_is_replaced(cluster: Cluster) -> None:
    cluster.contact, yew = "bay", cluster.host("yew")
    yew.plug()
    wait_until(lambda: ("yew", "Down", "Unreachable") in listed(cluster), 60, "yew to be missed")
    follow("managers.md", "docker node ls", cluster.manager)
    for line in ("docker node demote HOST", "docker node rm HOST"):
        follow("managers.md", line, cluster.manager, {"HOST": "yew"})
    assert [name for name, _, _ in listed(cluster)] == ["bay", "fir"]
    yew.boot()
    wait_until(lambda: "removed" in cluster.docker("info", on=yew), 60, "the dead one to say that it was removed")
    follow("managers.md", "docker swarm leave --force", yew)
    assert cluster.containers(yew) == {}
    join(cluster, yew)
    cluster.wait_managers()
    cluster.wait_running("web", 3)


def test_a_manager_that_leaves_by_itself_is_demoted_and_removed(cluster: Cluster) -> None:
    yew = cluster.host("yew")
    follow("managers.md", "docker swarm leave --force", yew)
    wait_until(lambda: ("yew", "Down", "") in listed(cluster), 60, "yew to be gone, and its vote")
    for line in ("docker node demote HOST", "docker node rm HOST"):
        follow("managers.md", line, cluster.manager, {"HOST": "yew"})
    join(cluster, yew)
    cluster.wait_managers()
    follow("managers.md", "docker node demote HOST", cluster.manager, {"HOST": "yew"})
    wait_until(lambda: ("yew", "Ready", "") in listed(cluster), 60, "yew to be a worker")
    follow("managers.md", "docker node promote HOST", cluster.manager, {"HOST": "yew"})
    cluster.wait_managers()


def test_a_manager_that_was_demoted_and_promoted_while_it_was_away_votes_again(cluster: Cluster) -> None:
    yew = cluster.host("yew")
    before = cluster.everything()
    yew.ssh("systemctl stop covey")
    for line in ("docker node demote HOST", "docker node promote HOST"):
        follow("managers.md", line, cluster.manager, {"HOST": "yew"})
    yew.ssh("systemctl start covey")
    cluster.wait_managers()
    assert cluster.everything() == before


def test_the_majority_is_lost_and_one_goes_on(cluster: Cluster) -> None:
    bay, *lost = cluster.hosts
    before = cluster.everything()
    for host in lost:
        host.ssh("systemctl stop covey")
    wait_until(lambda: "leader     none" in follow("recover.md", "covey status", bay, check=False).out, 30, "no leader")
    assert "is the cluster's only manager" in follow("recover.md", "covey cluster recover", bay, answer="yes").out
    for line in ("docker node ls", "docker service ls"):
        follow("recover.md", line, bay)
    for host in lost:
        host.ssh("systemctl start covey")
        wait_until(lambda host=host: (host.name, "Ready", "") in listed(cluster), 60, f"{host.name} to be a worker")
    for host in lost:
        follow("recover.md", "docker node promote HOST", bay, {"HOST": host.name})
        wait_until(lambda host=host: host.name in voting(cluster), 60, f"{host.name} to vote")
    assert cluster.everything() == before


def test_backed_up_and_restored_where_no_manager_is_left(cluster: Cluster) -> None:
    """On a new address, so that the worker which still runs has to be told; then three managers again."""
    bay, fir, yew = cluster.hosts
    follow("managers.md", "docker node demote HOST", bay, {"HOST": "yew"})
    wait_until(lambda: ("yew", "Ready", "") in listed(cluster), 60, "yew to be a worker")
    made = follow("backup.md", "covey cluster backup /root/cluster.backup", bay, answer=PASSPHRASE).out
    assert "index" in made
    told = follow("backup.md", "covey cluster inspect /root/cluster.backup", bay).out
    opened = follow("backup.md", "covey cluster inspect /root/cluster.backup --verify", bay, answer=PASSPHRASE).out
    assert "opens      3 nodes, 1 services" in opened
    assert told.splitlines()[0] in opened
    backup = bay.ssh("base64 /root/cluster.backup").out
    running = cluster.containers(yew)
    for host in (bay, fir):
        host.wipe()
    bay = cluster.lab.move("bay")
    for host in (bay, fir):
        host.boot()
    agent_only(cluster, "bay", "fir")

    assert "state      inactive" in follow("restore.md", "covey status", bay, check=False).out
    bay.ssh("umask 077; base64 -d > /root/cluster.backup", stdin=backup)
    follow("restore.md", "covey cluster restore /root/cluster.backup", bay, answer=PASSPHRASE)
    for line in ("docker node ls", "docker service ls"):
        follow("restore.md", line, bay)
    unheard = [("bay", "Unknown", ""), ("fir", "Unknown", ""), ("yew", "Unknown", "")]
    assert listed(cluster) == sorted([*unheard, ("bay", "Ready", "Leader")])
    follow("restore.md", "covey cluster find 192.0.2.11", yew, {"192.0.2.11": bay.address})
    wait_until(lambda: ("yew", "Ready", "") in listed(cluster), 60, "the worker to find the restored manager")
    for gone in [node for node in cluster.get("/nodes") if node["Status"]["State"] == "unknown"]:
        follow("restore.md", "docker node rm --force ID", bay, {"ID": gone["ID"]})
    join(cluster, fir)
    follow("restore.md", "docker node promote", bay, {"promote": "promote yew"})
    cluster.wait_managers()
    cluster.wait_running("web", 3)
    assert cluster.containers(yew) == running
    for role in ("worker", "manager"):
        follow("restore.md", "docker swarm join-token --rotate worker", bay, {"worker": role})
