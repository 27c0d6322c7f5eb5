# SPDX-License-Identifier: GPL-3.0-or-later
"""A hijacked stream: two sockets joined byte for byte, half-closes included.  No time-outs: it may idle for weeks."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from covey.api.front.sockets import CHUNK, half_close


@dataclass(frozen=True, slots=True)
class End:
    """One side; `unparsed` is what was read of it already and belongs to the stream."""

    socket: socket.socket
    gone: asyncio.Event
    unparsed: bytes


async def splice(one: End, other: End) -> None:
    """Copy both ways until both ends have finished, or one has and is closed altogether.

    An end that is closed still has all it sent delivered; only then is the other closed too, by the caller.
    """
    there = asyncio.create_task(_copy(one, other), name="splice there")
    back = asyncio.create_task(_copy(other, one), name="splice back")
    ways_out = [
        asyncio.create_task(_both(there, back), name="splice finished"),
        asyncio.create_task(_finished_and_gone(there, one), name="splice one gone"),
        asyncio.create_task(_finished_and_gone(back, other), name="splice other gone"),
    ]
    try:
        done, _ = await asyncio.wait(ways_out, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        tasks = [there, back, *ways_out]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(source: End, target: End) -> None:
    loop = asyncio.get_running_loop()
    try:
        data = source.unparsed or await loop.sock_recv(source.socket, CHUNK)
        while data:
            await loop.sock_sendall(target.socket, data)
            data = await loop.sock_recv(source.socket, CHUNK)
    except ConnectionError:
        return  # the target takes no more, or the source broke off: what comes the other way still counts
    finally:
        half_close(target.socket)


async def _both(there: asyncio.Task[None], back: asyncio.Task[None]) -> None:
    await there
    await back


async def _finished_and_gone(way: asyncio.Task[None], end: End) -> None:
    await way
    await end.gone.wait()
