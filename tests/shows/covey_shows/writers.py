# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing clients on every manager, a record of what they were told, and whether the managers still have all of it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Cluster, whole

#: Runs on a manager: creates configs that hold their own name, and logs each name once it is acknowledged.  One that is
#: not is never tried again: nobody knows what became of it.
WRITER = f"""
n=0
rm -f /tmp/stop
while [ ! -e /tmp/stop ]; do
  n=$((n + 1))
  if printf %s PREFIX-$n | timeout 5 docker -H unix://{SOCKET} config create PREFIX-$n - >/dev/null 2>&1
  then echo PREFIX-$n >> /tmp/PREFIX; else sleep 0.1; fi
done
"""
#: A writer gets on if it is acknowledged so many more.
MORE = 5


class Writing:
    """Writers that are at it; ``prefix`` begins the names of what they write."""

    def __init__(self, hosts: Sequence[Host], prefix: str) -> None:
        self.hosts, self._prefix = list(hosts), prefix
        self._running: dict[str, Future[None]] = {}

    def start(self, pool: Executor) -> None:
        """Write on every host until told to stop."""
        self._running = {host.name: pool.submit(self._run, host) for host in self.hosts}

    def acknowledged(self, host: Host) -> list[str]:
        """What that host's writer was told is safe, so far."""
        return host.ssh(f"cat /tmp/{self._prefix}-{host.name} 2>/dev/null || true").out.split()

    def get_on(self, hosts: Sequence[Host] | None = None, timeout: float = 40) -> None:
        """Wait until the writers on these hosts, or all, have been acknowledged more than now."""
        for host in hosts or self.hosts:
            enough = len(self.acknowledged(host)) + MORE
            wait_until(
                lambda host=host, enough=enough: len(self.acknowledged(host)) >= enough,
                timeout,
                f"the writer on {host.name} to get on",
            )

    def _run(self, host: Host) -> None:
        host.ssh(WRITER.replace("PREFIX", f"{self._prefix}-{host.name}"), timeout=300)

    def end(self, host: Host) -> list[str]:
        """Have that host's writer end, since the host will be off; what it was told is safe."""
        self.hosts = [each for each in self.hosts if each.name != host.name]
        host.ssh("touch /tmp/stop")
        self._running[host.name].result()
        return self.acknowledged(host)

    def stop(self) -> None:
        """Have every writer end after the write that it is at."""
        for host in self.hosts:
            host.ssh("touch /tmp/stop")

    def result(self) -> set[str]:
        """What all of them were told is safe, once they have stopped."""
        for host in self.hosts:
            self._running[host.name].result()
        return {name for host in self.hosts for name in self.acknowledged(host)}


class Ledger:
    """Everything that was ever acknowledged to a writer on one of these managers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.names: set[str] = set()

    @contextmanager
    def writing(self, prefix: str) -> Iterator[Writing]:
        """A writer on every manager; each gets on before and after what happens inside, unless it was ended there."""
        writing = Writing(self.cluster.managing, prefix)
        with ThreadPoolExecutor(len(writing.hosts)) as pool:
            writing.start(pool)
            try:
                writing.get_on()
                yield writing
                writing.get_on()
            finally:
                writing.stop()
        self.names |= writing.result()

    def settle(self, timeout: float = 60) -> None:
        """Wait until every manager is reachable, has the same state, and in it all that was ever acknowledged."""
        wait_until(lambda: whole(self.cluster), timeout, "every manager to be reachable under one leader")
        wait_until(self._agreed, timeout, "every manager to have the same state")
        for host in self.cluster.managing:
            held = {each["Spec"]["Name"]: b64decode(each["Spec"]["Data"]).decode() for each in self._configs(host)}
            lost = sorted(self.names - held.keys())
            assert not lost, f"{host.name} lost {len(lost)} of {len(self.names)} acknowledged writes: {lost[:10]}"
            assert all(held[name] == name for name in self.names), f"{host.name} holds other values than were written"

    def _agreed(self) -> bool:
        states = [
            (self._position(host), self._configs(host), self._known(host, "/services"))
            for host in self.cluster.managing
        ]
        return all(state == states[0] for state in states)

    def _position(self, host: Host) -> Any:
        """Term and index of that manager's log."""
        return self.cluster.get("/covey/v1/status", on=host)["Raft"]

    def _configs(self, host: Host) -> list[Any]:
        return self._known(host, "/configs")

    def _known(self, host: Host, path: str) -> list[Any]:
        """What that manager knows by itself, whoever leads."""
        return sorted(self.cluster.get(f"{path}?consistency=stale", on=host), key=lambda each: str(each["ID"]))
