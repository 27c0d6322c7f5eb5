# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to the kernel's packet filter, through iptables as the engine uses it; what rules, ``hostports`` knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Protocol

from covey.model.errors import CoveyError
from covey.network import hostports
from covey.network.hostports import HostPort

#: Seconds for a program to do its work, of which it may wait for others that hold the lock.
TIMEOUT, LOCK_WAIT = 20.0, 5


class KernelRefused(CoveyError):
    """The packet filter cannot be read or changed."""


class PacketFilter(Protocol):
    """Both raise KernelRefused, then nothing of a table has changed."""

    async def apply(self, wanted: Iterable[HostPort]) -> None:
        """Have exactly these ports lead to containers, each table changed at once."""

    async def clear(self) -> None:
        """Leave nothing of ours behind."""


class IpTables:
    """The PacketFilter of this host."""

    async def apply(self, wanted: Iterable[HostPort]) -> None:
        await self._change(partial(hostports.change, tuple(wanted)))

    async def clear(self) -> None:
        await self._change(hostports.removal)

    async def _change(self, plan: Callable[[str], str]) -> None:
        text = plan(await _run(["iptables-save"]))
        if text:
            await _run(["iptables-restore", "--noflush", "--wait", str(LOCK_WAIT)], text)


async def _run(command: list[str], text: str = "") -> str:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise KernelRefused(f"{command[0]} cannot be run: {error}") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate(text.encode())
    except TimeoutError as error:
        raise KernelRefused(f"{command[0]} did not end within {TIMEOUT:.0f} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        raise KernelRefused(f"{command[0]} failed: {err.decode(errors='replace').strip()}")
    return out.decode(errors="replace")
