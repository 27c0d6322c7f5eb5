# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the host's packet filter in step with the containers that run, so that their ports outlive the engine's rules.

A help, not a need: the engine publishes them too, so a packet filter that refuses is a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from covey.executor.base import Container, ContainerState
from covey.network.hostports import PROTOCOLS, HostPort
from covey.network.kernel import KernelRefused, PacketFilter

log = logging.getLogger(__name__)

#: Seconds of gathering, and until the rules are looked at though nothing happened.
GATHER, AGAIN = 0.05, 30.0


class HostPorts:
    """``running`` says what is there, or None while that is not known; ``packets`` may be missing."""

    def __init__(self, running: Callable[[], Iterable[Container] | None], packets: PacketFilter | None) -> None:
        self._running, self._packets = running, packets
        self._woken, self._doubtful = asyncio.Event(), True
        self._applied: frozenset[HostPort] | None = None
        self._trouble = ""

    def changed(self) -> None:
        """A container may have changed."""
        self._woken.set()

    def doubt(self) -> None:
        """The rules themselves may have changed: look at them."""
        self._doubtful = True
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; the rules stay, as the containers do."""
        while True:
            try:
                async with asyncio.timeout(AGAIN):
                    await self._woken.wait()
            except TimeoutError:
                self._doubtful = True
            await asyncio.sleep(GATHER)
            self._woken.clear()
            containers = self._running()
            if self._packets is None or containers is None:
                continue
            ports = wanted(containers)
            if self._doubtful or ports != self._applied:
                await self._apply(self._packets, ports)

    async def _apply(self, packets: PacketFilter, ports: frozenset[HostPort]) -> None:
        self._doubtful, self._applied = False, None
        try:
            await packets.apply(ports)
        except KernelRefused as error:
            if str(error) != self._trouble:
                log.warning("published ports pause while the container engine restarts: %s", error)
            self._trouble = str(error)
        else:
            self._trouble, self._applied = "", ports


def wanted(containers: Iterable[Container]) -> frozenset[HostPort]:
    """The ports of running containers that are open on every address of the host."""
    return frozenset(
        HostPort(port.protocol or "tcp", port.published_port, container.address, port.target_port)
        for container in containers
        if container.state is ContainerState.RUNNING and container.address
        for port in container.open_to_all
        if port.published_port and (port.protocol or "tcp") in PROTOCOLS
    )
