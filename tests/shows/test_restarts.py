# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents and engines restart under a request loop: no container is touched, no request fails."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster

pytestmark = pytest.mark.lab
PORT = 8080


class Requests:
    """A loop of requests against every host's published port; a second without an answer is a failure."""

    def __init__(self, hosts: list[Host]) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._addresses = [host.address for host in hosts]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(a,), daemon=True) for a in self._addresses]

    def __enter__(self) -> Requests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, address: str) -> None:
        while not self._over.wait(0.05):
            try:
                with urllib.request.urlopen(f"http://{address}:{PORT}/", timeout=1) as answer:
                    answer.read()
                self.answered += 1
            except OSError as error:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {address}: {error}")


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


@contextmanager
def undisturbed(cluster: Cluster) -> Iterator[Requests]:
    """What happens inside leaves every container as it is and fails no request."""
    before = cluster.everything()
    assert all(before.values())
    with Requests(cluster.hosts) as requests:
        wait_until(lambda: requests.answered > 30, 20, "the request loop to run")
        yield requests
        seen = requests.answered
        wait_until(lambda: requests.answered > seen + 30, 20, "the request loop to go on")
    assert cluster.everything() == before
    assert not requests.failures


def settled(cluster: Cluster) -> bool:
    nodes = cluster.nodes().values()
    return len(cluster.tasks("web")) == 3 and all(node["Status"]["State"] == "ready" for node in nodes)


@pytest.mark.parametrize("unit", ["covey", "docker"])
@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_a_restart_goes_unnoticed(cluster: Cluster, unit: str, name: str) -> None:
    with undisturbed(cluster):
        cluster.host(name).ssh(f"systemctl restart {unit}")
        wait_until(lambda: settled(cluster), 40, "the cluster to be whole again")


def test_the_loop_would_notice(cluster: Cluster) -> None:
    host = cluster.host("two")
    container = next(iter(cluster.containers(host)))
    with pytest.raises(AssertionError), undisturbed(cluster):  # noqa: PT012 - the block is what must be noticed
        host.ssh(f"docker restart -t 0 {container}")
        wait_until(lambda: settled(cluster), 60, "the cluster to be whole again")
    wait_until(lambda: settled(cluster), 60, "the cluster to be whole again")
