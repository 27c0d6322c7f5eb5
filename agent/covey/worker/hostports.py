# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the host's packet filter in step with the containers that run, so that their ports outlive the engine's rules.

A help, not a need: the engine publishes them too, so a packet filter that refuses is a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

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
        self._woken = asyncio.Event()
        self._trouble = ""

    def changed(self) -> None:
        """A container may have changed, or the engine its rules."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; the rules stay, as the containers do."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._woken.wait()
            await asyncio.sleep(GATHER)
            self._woken.clear()
            containers = self._running()
            if self._packets is not None and containers is not None:
                await self._apply(self._packets, containers)

    async def _apply(self, packets: PacketFilter, containers: Iterable[Container]) -> None:
        try:
            await packets.apply(wanted(containers))
        except KernelRefused as error:
            if str(error) != self._trouble:
                log.warning("published ports pause while the container engine restarts: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""


def wanted(containers: Iterable[Container]) -> frozenset[HostPort]:
    """The ports of running containers that are open on every address of the host."""
    return frozenset(
        HostPort(port.protocol or "tcp", port.published_port, container.address, port.target_port)
        for container in containers
        if container.state is ContainerState.RUNNING and container.address
        for port in container.open_to_all
        if port.published_port and (port.protocol or "tcp") in PROTOCOLS
    )
