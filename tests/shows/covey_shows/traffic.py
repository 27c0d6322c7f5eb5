# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of what runs in a cluster: they notice a container that is touched and a request that fails."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster

#: What every host publishes: a container of `web` answers there.
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
