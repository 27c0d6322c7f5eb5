# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that can be brought back: from one manager of three, and from a backup after all three are gone."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster, Play

pytestmark = pytest.mark.lab

MANAGERS, WORKER = ["ada", "bob", "cy"], "dot"
PASSPHRASE = "correct horse battery"
SECRET = {"cluster_backup_passphrase": PASSPHRASE}
CONFIRMED = {"covey_confirm": "yes"}


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Three managers and a worker; `web` runs on each."""
    names = [*MANAGERS, WORKER]
    cluster = make_cluster(names, managers=3)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 4)
    yield cluster
    cluster.lab.remove(names)


@pytest.fixture(scope="module")
def backup(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster as it was at first, on the controller."""
    file = tmp_path_factory.mktemp("backup") / "cluster.backup"
    play = cluster.play("backup", "-vvv", variables={**SECRET, "cluster_backup_file": str(file)})
    assert PASSPHRASE not in play.output
    return file


def nodes(cluster: Cluster, on: Host) -> dict[str, Any]:
    """Nodes by host name, as that manager tells."""
    found = cluster.get("/nodes", on=on)
    return {node["Description"]["Hostname"]: node for node in found} if isinstance(found, list) else {}


def is_manager(node: dict[str, Any]) -> bool:
    return node.get("ManagerStatus", {}).get("Reachability") == "reachable"


def services(cluster: Cluster, on: Host) -> set[str]:
    found = cluster.get("/services", on=on)
    return {service["Spec"]["Name"] for service in found} if isinstance(found, list) else set()


def status(host: Host) -> str:
    return host.ssh("covey status", check=False).out


def failed_hosts(play: Play) -> set[str]:
    return {name for name, count in play.failed.items() if count}


def test_a_backup_says_what_it_is_and_nothing_else(cluster: Cluster, backup: Path) -> None:
    title, about = backup.read_bytes().split(b"\n", 2)[:2]
    assert title == b"covey backup, format 1"
    assert cluster.get("/swarm")["ID"].encode() in about
    assert b"web" not in backup.read_bytes()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    again = cluster.play("backup", check=False, variables={**SECRET, "cluster_backup_file": str(backup)})
    assert again.code != 0
    assert "is there already" in again.output
    assert cluster.host("ada").ssh("ls -d /tmp/covey-*", check=False).code != 0, "nothing is left behind"


def test_one_of_three_managers_goes_on_and_the_others_come_back(cluster: Cluster, backup: Path) -> None:
    ada, bob, cy, dot = cluster.hosts
    cluster.docker("service", "create", "--detach", "--name", "later", "--replicas", "0", cluster.image(), on=cy)
    ids = {name: node["ID"] for name, node in nodes(cluster, cy).items()}
    before = {host.name: cluster.containers(host) for host in (cy, dot)}
    refused = cluster.docker("swarm", "init", "--force-new-cluster", on=cy, check=False)
    assert "is now a manager" not in refused, "a majority lives"
    for host in (ada, bob):
        host.plug()

    told = cluster.play("recover", "--limit", "cy,dot", check=False)
    assert told.code != 0
    assert "To go on with: cy" in told.output
    assert "covey_confirm=yes" in told.output
    play = cluster.play("recover", "--limit", "cy,dot", variables=CONFIRMED)
    assert failed_hosts(play) == set()

    assert services(cluster, cy) == {"web", "later"}
    assert {host.name: cluster.containers(host) for host in (cy, dot)} == before
    cluster.docker("service", "create", "--detach", "--name", "since", "--replicas", "0", cluster.image(), on=cy)
    assert [name for name, node in nodes(cluster, cy).items() if is_manager(node)] == ["cy"]

    for host in (ada, bob):
        host.start()
    for host in (ada, bob):
        host.wait()

    def returned() -> bool:
        known = nodes(cluster, cy)
        workers = [known[host.name] for host in (ada, bob)]
        ready = all(node["Status"]["State"] == "ready" and not is_manager(node) for node in workers)
        return ready and all("state      active" in status(host) for host in (ada, bob))

    wait_until(returned, 60, "the old managers to be workers of the recovered cluster")
    for host in (ada, bob):
        assert "recovered" in host.ssh("journalctl -u covey -b --no-pager").out
        assert host.ssh("ls /var/lib/covey/kept").out.startswith("raft-")
    assert [name for name, node in nodes(cluster, cy).items() if is_manager(node)] == ["cy"]

    play = cluster.play("recover", variables=CONFIRMED)
    assert {name: node["ID"] for name, node in nodes(cluster, cy).items()} == ids, "nobody had to join anew"
    assert all(is_manager(nodes(cluster, cy)[host.name]) for host in (ada, bob, cy))
    for host in (ada, bob, cy):
        wait_until(lambda host=host: services(cluster, host) == {"web", "later", "since"}, 30, f"the state on {host}")
    assert {host.name: cluster.containers(host) for host in (cy, dot)} == before
    cluster.wait_running("web", 4)


def test_a_backup_brings_back_a_cluster_whose_managers_are_all_gone(cluster: Cluster, backup: Path) -> None:
    dot = cluster.host(WORKER)
    worker, cluster_id = nodes(cluster, cluster.host("cy"))[WORKER]["ID"], cluster.get("/swarm")["ID"]
    living = cluster.play("restore", check=False, variables=from_backup(backup))
    assert living.code != 0
    assert "a manager of a living cluster" in living.output
    before = cluster.containers(dot)
    cluster.lab.fresh(MANAGERS, "docker")

    wrong = {**from_backup(backup), "cluster_backup_passphrase": "another passphrase"}
    play = cluster.play("restore", check=False, variables=wrong)
    assert play.code != 0
    assert "the passphrase is not the one" in play.output
    assert "state      inactive" in status(cluster.host("ada"))

    cluster.play("restore", variables=from_backup(backup))
    known = nodes(cluster, cluster.host("ada"))
    assert cluster.get("/swarm")["ID"] == cluster_id
    assert set(known) == {*MANAGERS, WORKER}
    assert len(cluster.get("/nodes")) == 4, "what the hosts were before is forgotten"
    assert all(is_manager(known[name]) for name in MANAGERS)
    assert known[WORKER]["ID"] == worker
    cluster.wait_running("web", 4)
    assert cluster.containers(dot) == before
    assert services(cluster, cluster.host("ada")) == {"web"}, "the state is that of the backup"
    again = cluster.play("restore", check=False, variables=from_backup(backup))
    assert "a manager of a living cluster" in again.output


def from_backup(file: Path) -> dict[str, Any]:
    return {**SECRET, "cluster_backup_file": str(file)}
