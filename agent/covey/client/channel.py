# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's end of its session with a manager: messages over a web socket over mutual TLS.

Never in it: which manager, when to try again, what a message means.
"""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from covey.client import sockets, wire
from covey.client.managers import Context, failed
from covey.model import codec
from covey.model.session import MAX_FRAME, FromDispatcher, FromWorker

#: For the other end to confirm that the connection is closed.
CLOSE_TIMEOUT = 0.5


class Channel:
    """One connection; sending and receiving may happen in two tasks."""

    def __init__(self, address: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.address = address
        self._socket = socket

    async def send(self, message: FromWorker) -> None:
        """Raises ConnectionError once the connection has ended."""
        try:
            await self._socket.send_bytes(codec.encode(message))
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionError(str(failed(self.address, error))) from error

    async def receive(self) -> FromDispatcher:
        """The next message; ConnectionError at the end, or when what came is no message."""
        frame = await self._socket.receive()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError(f"manager {self.address} ended the session{_why(frame)}")
        try:
            message: FromDispatcher = codec.decode(frame.data, FromDispatcher)
        except msgspec.MsgspecError as error:
            raise ConnectionError(f"manager {self.address} sent what is no message: {error}") from error
        return message

    async def close(self) -> None:
        """End the connection; a repeat does nothing."""
        await self._socket.close()


class Connector:
    """Opens sessions; ``context`` is asked for each, so a renewed certificate is used from the next one on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def connect(self, address: str) -> Channel:
        """A connection to the manager at ``host:2377``; ConnectionError, within two seconds, if there is none to get.

        That the other end is a manager of our cluster was checked in the handshake.
        """
        try:
            async with asyncio.timeout(sockets.CONNECT_TIMEOUT):
                socket = await self._http().ws_connect(
                    f"https://{sockets.with_port(address)}{wire.SESSION}",
                    ssl=self._context(),
                    max_msg_size=MAX_FRAME,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise ConnectionError(f"manager {address} refused the session: HTTP {error.status}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionError(str(failed(address, error))) from error
        return Channel(address, socket)

    async def close(self) -> None:
        """Close what is still open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=sockets.make)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _why(frame: aiohttp.WSMessage) -> str:
    return f": {frame.data}" if frame.type is aiohttp.WSMsgType.ERROR else ""
