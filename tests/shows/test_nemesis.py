# SPDX-License-Identifier: GPL-3.0-or-later
"""Nemesis: whatever happens to three managers that are written to, no acknowledged write is lost and they agree again.

The table in docs/design/store-proof.md has a row for each test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster
from covey_shows.writers import Ledger

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Three managers, a container on each; heartbeats so slow that no fault here makes a node count as lost."""
    names = ["hera", "zeus", "ares"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("swarm", "update", "--dispatcher-heartbeat", "20s")
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 3)
    yield cluster
    cluster.lab.remove(names)


@pytest.fixture(scope="module")
def ledger(cluster: Cluster) -> Ledger:
    return Ledger(cluster)


@pytest.fixture(autouse=True)
def _nothing_is_lost(cluster: Cluster, ledger: Ledger) -> Iterator[None]:
    """After every test: the managers agree, on all that was ever acknowledged, and no container was touched."""
    before = cluster.everything()
    yield
    cluster.lab.mend()
    ledger.settle()
    assert cluster.everything() == before


def leader(cluster: Cluster, among: list[Host] | None = None) -> Host:
    """The manager that leads, once these (or all) know of one of theirs and of no other."""
    hosts = among or cluster.hosts

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
    return [host for host in cluster.hosts if host.name != but.name]


def agent(host: Host) -> str:
    """Its process."""
    return host.ssh("systemctl show --property=MainPID --value covey").out.strip()


def kill(host: Host) -> None:
    host.ssh(f"kill -KILL {agent(host)}")


def test_the_leader_is_killed(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("killed"):
        killed = leader(cluster)
        before = term(cluster, killed)
        kill(killed)
        other, _ = others(cluster, killed)
        wait_until(lambda: term(cluster, other) > before, 30, "another election")


def test_all_are_killed_at_once(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("massacre") as writing, ThreadPoolExecutor(3) as pool:
        before = {host.name: agent(host) for host in cluster.hosts}
        list(pool.map(kill, cluster.hosts))
        writing.get_on()
        assert not set(before.items()) & {(host.name, agent(host)) for host in cluster.hosts}


def test_the_leader_stands_still_and_goes_on(cluster: Cluster, ledger: Ledger) -> None:
    with ledger.writing("stopped") as writing:
        stopped = leader(cluster)
        stopped.pause("covey")
        leader(cluster, others(cluster, stopped))
        writing.get_on(others(cluster, stopped))
        stopped.resume("covey")
        assert leader(cluster).name != stopped.name
