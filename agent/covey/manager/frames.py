# SPDX-License-Identifier: GPL-3.0-or-later
"""The manager's end of a worker's session: messages as frames of a web socket.  Never in it: what a message means."""

from __future__ import annotations

from typing import Self

import aiohttp
import msgspec
from aiohttp import web

from covey.model import codec
from covey.model.session import MAX_FRAME, FromDispatcher, FromWorker

CLOSE_TIMEOUT = 0.3


class SessionChannel:
    """See ``covey.control.session.ServerChannel``."""

    def __init__(self, response: web.WebSocketResponse, address: str) -> None:
        self.response, self._address = response, address

    @classmethod
    async def accept(cls, request: web.Request, address: str) -> Self:
        """Make a session of a request."""
        response = web.WebSocketResponse(timeout=CLOSE_TIMEOUT, max_msg_size=MAX_FRAME, compress=False)
        await response.prepare(request)
        return cls(response, address)

    @property
    def address(self) -> str:
        """The worker's address."""
        return self._address

    async def send(self, message: FromDispatcher) -> None:
        """Raises ConnectionError once the connection has ended."""
        try:
            await self.response.send_bytes(codec.encode(message))
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise ConnectionError(f"the worker's connection has ended: {error}") from error

    async def receive(self) -> FromWorker:
        """The next message; ConnectionError at the end, or when what came is no message."""
        frame = await self.response.receive()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError(f"the worker ended the session ({frame.type.name.lower()})")
        try:
            message: FromWorker = codec.decode(frame.data, FromWorker)
        except msgspec.MsgspecError as error:
            raise ConnectionError(f"the worker sent what is no message: {error}") from error
        return message

    async def close(self) -> None:
        """End the connection; a repeat does nothing."""
        await self.response.close()
