# SPDX-License-Identifier: GPL-3.0-or-later
"""Nemesis: whatever happens to three managers that are written to, no acknowledged write is lost and they agree again.

The table in docs/design/store-proof.md has a row for each test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.callers import IDENTITY
from covey_shows.cluster import SOCKET, Cluster
from covey_shows.faults import RAFT, bad_links, breakable_syncs, failing_syncs, flip, flipped
from covey_shows.guide import follow
from covey_shows.writers import Ledger

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Three managers and a worker, a container on each; heartbeats so slow that a node that is silent for the time of a
    fault does not count as lost.
    """
    names = ["hera", "zeus", "ares", "leto"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("swarm", "update", "--dispatcher-heartbeat", "20s")
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 4)
    yield cluster
    cluster.lab.remove(names)


@pytest.fixture(scope="module")
def ledger(cluster: Cluster) -> Ledger:
    return Ledger(cluster)


@pytest.fixture(autouse=True)
def _nothing_is_lost(cluster: Cluster, ledger: Ledger) -> Iterator[None]:
    """After every test the managers agree, on all that was ever acknowledged."""
    yield
    cluster.lab.mend()
    ledger.settle()


@pytest.fixture
def untouched(cluster: Cluster) -> Iterator[None]:
    """No container is touched."""
    before = cluster.everything()
    yield
    assert cluster.everything() == before


def leader(cluster: Cluster, among: list[Host] | None = None) -> Host:
    """The manager that leads, once these (or all) know of one of theirs and of no other."""
    hosts = among or cluster.managing

    def agreed() -> list[Host]:
        told = {(status(cluster, host)["Leader"] or {}).get("Addr") for host in hosts}
        return [host for host in hosts if told == {f"{host.address}:2377"}]

    (found,) = wait_until(agreed, 30, f"{', '.join(host.name for host in hosts)} to follow one of them")
    return found


def status(cluster: Cluster, host: Host) -> Any:
    """What its agent says of itself."""
    return cluster.get("/covey/v1/status", on=host)


def term(cluster: Cluster, host: Host) -> int:
    return int(status(cluster, host)["Raft"]["Term"])


def others(cluster: Cluster, but: Host) -> list[Host]:
    return [host for host in cluster.managing if host.name != but.name]


def said(host: Host, what: str) -> str:
    """A property of the agent's unit."""
    return host.ssh(f"systemctl show --property={what} --value covey").out.strip()


def kill(host: Host) -> None:
    host.ssh(f"kill -KILL {said(host, 'MainPID')}")


@pytest.mark.usefixtures("untouched")
def test_the_leader_is_killed(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("killed"):
        killed = leader(cluster)
        before = term(cluster, killed)
        kill(killed)
        other, _ = others(cluster, killed)
        wait_until(lambda: term(cluster, other) > before, 30, "another election")


@pytest.mark.usefixtures("untouched")
def test_the_leader_is_killed_while_the_root_is_rotated(cluster: Cluster, ledger: Ledger) -> None:
    """A worker that stands still holds the rotation up until the leader is dead; then it goes on under the next."""
    before, worker = cluster.docker("swarm", "ca"), cluster.host("leto")
    with ledger.writing("rotation") as writing:
        worker.pause("covey")
        cluster.docker("swarm", "ca", "--rotate", "--detach")
        killed = leader(cluster)
        living = others(cluster, killed)
        kill(killed)
        writing.get_on(living)
        rotation = cluster.get("/covey/v1/rotation", on=living[0])
        assert [node["Hostname"] for node in rotation["Waiting"]][-1:] == ["leto"]
        worker.resume("covey")
        wait_until(lambda: not cluster.get("/covey/v1/rotation")["InProgress"], 60, "the rotation to end")
    root = cluster.docker("swarm", "ca")
    assert root != before
    wait_until(
        lambda: (
            {json.loads(host.ssh(f"cat {IDENTITY}").out)["Root"].strip() for host in cluster.hosts} == {root.strip()}
        ),
        30,
        "every node to trust the new root alone",
    )


@pytest.mark.usefixtures("untouched")
def test_all_are_killed_at_once(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("massacre") as writing, ThreadPoolExecutor(3) as pool:
        before = {host.name: said(host, "MainPID") for host in cluster.managing}
        list(pool.map(kill, cluster.managing))
        writing.get_on()
        assert not set(before.items()) & {(host.name, said(host, "MainPID")) for host in cluster.managing}


@pytest.mark.usefixtures("untouched")
def test_the_leader_stands_still_and_goes_on(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("stopped") as writing:
        stopped = leader(cluster)
        stopped.pause("covey")
        leader(cluster, others(cluster, stopped))
        writing.get_on(others(cluster, stopped))
        stopped.resume("covey")
        assert leader(cluster).name != stopped.name


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("outbound", [False, True], ids=["hears nothing", "is not heard"])
def test_a_follower_is_cut_off_one_way(cluster: Cluster, ledger: Ledger, *, outbound: bool) -> None:
    leads = leader(cluster)
    away, follows = others(cluster, leads)
    before = term(cluster, leads)
    with ledger.writing(f"follower-{outbound}") as writing:
        cluster.lab.cut(*((away.name, "*") if outbound else ("*", away.name)), one_way=True)
        wait_until(lambda: reachability(cluster, away, leads) == "unreachable", 30, f"{away.name} to be missed")
        writing.get_on([leads, follows])
        cluster.lab.mend()
    assert leader(cluster).name == leads.name
    assert {term(cluster, host) for host in cluster.managing} == {before}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("outbound", [False, True], ids=["hears nothing", "is not heard"])
def test_the_leader_is_cut_off_one_way(cluster: Cluster, ledger: Ledger, *, outbound: bool) -> None:
    away = leader(cluster)
    living = others(cluster, away)
    with ledger.writing(f"leader-{outbound}") as writing:
        cluster.lab.cut(*((away.name, "*") if outbound else ("*", away.name)), one_way=True)
        leads = leader(cluster, living)
        writing.get_on(living)
        wait_until(lambda: reachability(cluster, away, leads) == "unreachable", 30, f"{away.name} to be missed")
        cluster.lab.mend()
    assert leader(cluster).name == leads.name


def reachability(cluster: Cluster, of: Host, on: Host) -> str:
    (found,) = [node for node in cluster.get("/nodes", on=on) if node["Description"]["Hostname"] == of.name]
    return str(found["ManagerStatus"]["Reachability"])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("delay", "loss"), [(0.05, 0), (0.02, 10)], ids=["slow", "lossy"])
def test_every_link_is_bad(cluster: Cluster, ledger: Ledger, delay: float, loss: int) -> None:
    with ledger.writing(f"loss-{loss}") as writing, ExitStack() as links:
        for host in cluster.managing:
            links.enter_context(bad_links(host, delay, loss))
        writing.get_on()


@pytest.fixture(scope="module")
def breakable(cluster: Cluster) -> Iterator[None]:
    with breakable_syncs(cluster.managing), ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda host: host.ssh("systemctl restart covey"), cluster.managing))
        yield


@pytest.mark.usefixtures("breakable", "untouched")
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
def test_the_disk_of_one_does_not_confirm_what_it_took(cluster: Cluster, ledger: Ledger, *, leads: bool) -> None:
    broken = leader(cluster) if leads else others(cluster, leader(cluster))[0]
    living = others(cluster, broken)
    starts = int(said(broken, "NRestarts"))
    with ledger.writing(f"sync-{leads}") as writing:
        since = broken.ssh("date +%s").out.strip()
        with failing_syncs(broken):
            wait_until(lambda: int(said(broken, "NRestarts")) >= starts + 2, 30, "the agent to end, and again")
            leader(cluster, living)
            writing.get_on(living)
    journal = broken.ssh(f"journalctl -u covey --since=@{since} --output=cat").out
    assert "the disk does not take" in journal
    assert "Input/output error; see to the disk that holds /var/lib/covey" in journal
    assert "Traceback" not in journal


#: Fills a manager's log so that all of them take a snapshot: after 32 MiB, and the leader after a quarter more.
FILL = f"""
i=0
while ! test -e {RAFT}/snapshot; do
  i=$((i + 1))
  head -c 900000 /dev/zero | docker -H unix://{SOCKET} config create fill-$1-$i - || exit 1
  docker -H unix://{SOCKET} config rm fill-$1-$i || exit 1
  test $i -lt 100 || exit 1
done
"""

#: The product's own hand writes what a founded cluster has no need to write: that its epoch is the first.
WRITE_EPOCH = f"""
from pathlib import Path
from covey.store.raft import epoch, files
epoch.write(Path("{RAFT}"), epoch.Epoch(), files.RealFiles())
"""


#: What is in a manager's Raft directory, a number left out: what must not be damaged, and what may be.
GUARDED = {"journal", "hard", "snapshot", "dek", "kek", "epoch"}
HINTS = {"peers", "lock"}


@pytest.fixture(scope="module")
def snapshots(cluster: Cluster) -> None:
    """Every manager has one."""
    for host in cluster.managing:
        host.ssh(f"sh -s {host.name}", stdin=FILL)


@pytest.mark.usefixtures("snapshots")
def test_a_file_with_a_wrong_byte_is_refused_and_named(cluster: Cluster, ledger: Ledger) -> None:
    host = others(cluster, leader(cluster))[0]
    with ledger.writing("flipped"):
        host.ssh("systemctl stop covey")
        host.ssh("/opt/covey/current/bin/python3 -", stdin=WRITE_EPOCH)
        kinds = {path: path.rpartition("/")[2].partition("-")[0] for path in host.ssh(f"ls -d {RAFT}/*").out.split()}
        assert set(kinds.values()) == GUARDED | HINTS
        for path, kind in kinds.items():
            if kind in GUARDED:
                with flipped(host, path):
                    refused = host.ssh("systemctl start covey", check=False)
                assert refused.code != 0, f"a wrong byte in {path} went unnoticed"
                assert (said(host, "ActiveState"), said(host, "ExecMainStatus")) == ("failed", "78")
                journal = host.ssh(f"journalctl _SYSTEMD_INVOCATION_ID={said(host, 'InvocationID')} --output=cat").out
                assert path in journal
                assert "restore the file, or have this manager begin anew while others lead" in journal
        for path, kind in kinds.items():
            if kind == "peers":
                flip(host, path)
        host.ssh("systemctl start covey")


@pytest.mark.usefixtures("untouched")
def test_a_manager_whose_state_is_damaged_gets_it_from_the_others(cluster: Cluster, ledger: Ledger) -> None:
    """What docs/guide/managers.md says under "The state of one is damaged"."""
    host = others(cluster, leader(cluster))[0]
    node = cluster.nodes()[host.name]["ID"]
    with ledger.writing("damaged"):
        host.ssh("systemctl stop covey")
        flip(host, host.ssh(f"ls {RAFT}/journal-* | tail -n 1").out.strip())
        assert host.ssh("systemctl start covey", check=False).code != 0
        follow("managers.md", "mv /var/lib/covey/cluster/raft /root/raft.damaged", host)
        follow("managers.md", "systemctl start covey", host)
    assert cluster.nodes()[host.name]["ID"] == node
    follow("managers.md", "rm -r /root/raft.damaged", host)


def test_a_dead_manager_is_replaced_by_a_new_host(cluster: Cluster, ledger: Ledger) -> None:
    """What docs/guide/managers.md says under "One is dead", by the playbooks."""
    cluster.docker("swarm", "update", "--dispatcher-heartbeat", "2s")
    dead = others(cluster, leader(cluster))[0]
    living = [host for host in cluster.hosts if host.name != dead.name]
    former, before = cluster.nodes()[dead.name]["ID"], {host.name: cluster.containers(host) for host in living}
    with ledger.writing("replaced") as writing:
        ledger.names.update(writing.end(dead))
        dead.plug()
        wait_until(lambda: cluster.nodes()[dead.name]["Status"]["State"] == "down", 40, f"{dead.name} to be down")
        meant = ("-e", f"covey_node={dead.name}", "-e", "covey_confirm=yes")
        play = cluster.play("remove_node", *meant, check=False)
        assert play.code != 0
        assert f"Node {dead.name} is down" in " ".join(play.output.split())
        assert dead.name in cluster.nodes()
        cluster.play("remove_node", *meant, "-e", "covey_remove_force=true")
        assert dead.name not in cluster.nodes()
        dead.wipe()
        dead.boot()
        cluster.play("site")
    node = cluster.nodes()[dead.name]
    assert node["ID"] != former
    assert "ManagerStatus" in node
    cluster.wait_running("web", 4)
    assert {host.name: cluster.containers(host) for host in living} == before
