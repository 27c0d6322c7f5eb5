# SPDX-License-Identifier: GPL-3.0-or-later
"""One end of an HTTP/1.1 connection: a socket and a sans-I/O parser.  Buffers at most one read.

Never in it: routing, timeouts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import h11

from covey.api.front.sockets import CHUNK
from covey.api.http import Headers

HEAD_LIMIT = 1024 * 1024  # the engine's own
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
Pairs = list[tuple[str, str]]


class Channel:
    """Reads events, writes events; reading and writing may happen in two tasks at once."""

    def __init__(self, connection: socket.socket, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        self.socket = connection
        self.http = h11.Connection(role, max_incomplete_event_size=HEAD_LIMIT)

    async def receive(self) -> Event:
        """The next event; h11.RemoteProtocolError when the other end breaks the rules, or off in the middle."""
        loop = asyncio.get_running_loop()
        while (event := self.http.next_event()) is h11.NEED_DATA:
            try:
                data = await loop.sock_recv(self.socket, CHUNK)
            except ConnectionError:
                data = b""
            self.http.receive_data(data)
        return event

    async def send(self, event: h11.Event) -> None:
        """Write it, however long the other end takes to read; OSError when it is gone."""
        data = self.http.send(event)
        if data:
            await self.send_raw(data)

    async def send_raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    @property
    def unparsed(self) -> bytes:
        """What was read beyond the last event."""
        return self.http.trailing_data[0]


def decoded(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def end_to_end(headers: Headers) -> Pairs:
    """The fields meant for the final recipient: those of this one connection are left out."""
    nominated = {name.strip().lower() for value in headers.get_all("Connection") for name in value.split(",")}
    dropped = HOP_BY_HOP | nominated
    return [(name, value) for name, value in headers.items() if name.lower() not in dropped]


def is_chunked(headers: Headers) -> bool:
    return "chunked" in headers.get("Transfer-Encoding").lower()
