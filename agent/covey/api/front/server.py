# SPDX-License-Identifier: GPL-3.0-or-later
"""The front itself: accepts clients, and decides for each request anew whether we answer it or the engine does.

No idle time-outs: the other end of a unix socket cannot vanish unnoticed, and streams may idle for weeks.  Never in it:
what our paths mean (that is the handlers').
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import h11

from covey.api.front import local
from covey.api.front.channel import Channel, decoded
from covey.api.front.engine import Engine
from covey.api.front.relay import PeerLost, Relay
from covey.api.front.sockets import Hangups, connect, credentials, part
from covey.api.http import Credentials, Handler, HeaderHook, Query, Request, Response
from covey.model import errors

OURS = "/covey/"
_VERSIONED = re.compile(r"/v([0-9][0-9.]*)(/.*)", re.DOTALL)
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BREATH = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Front:
    """Serves the control socket.

    `explain` turns what a handler raised into a response; `hook` may alter the headers of the engine's answers.
    """

    engine: Engine
    handlers: Sequence[Handler]
    explain: local.Explain
    hook: HeaderHook | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Until cancelled, which ends every connection and closes `listener`, a listening, non-blocking unix socket."""
        with closing(listener), closing(Hangups()) as hangups:
            async with asyncio.TaskGroup() as clients:
                while True:
                    connection = await _accept(listener)
                    clients.create_task(self._client(connection, hangups), name="front client")

    async def _client(self, connection: socket.socket, hangups: Hangups) -> None:
        with closing(connection):
            client = _Client(Channel(connection, h11.SERVER), credentials(connection), hangups)
            with hangups.watching(connection) as gone:
                try:
                    while await self._exchange(client, gone):
                        client.channel.http.start_next_cycle()
                except (PeerLost, local.ClientGone, OSError, h11.RemoteProtocolError) as error:
                    log.debug("a client's connection ended early: %s", error)
                except Exception:
                    log.exception("a client's connection failed; it was closed")
            await part(connection)

    async def _exchange(self, client: _Client, gone: asyncio.Event) -> bool:
        """One request and its answer; whether the connection can take another."""
        channel = client.channel
        try:
            head = await channel.receive()
        except h11.RemoteProtocolError as error:
            await _refuse(channel, gone, error)
            return False
        if not isinstance(head, h11.Request):
            return False
        request = parse(head, client.credentials)
        handler = next((one for one in self.handlers if one.owns(request.method, request.path)), None)
        if handler is not None:
            await self._answer(channel, gone, handler, request)
        elif request.path.startswith(OURS):
            missing = Response.error(404, f"{request.method} {request.path} is not a call of this release")
            await local.decline(channel, gone, request.method, missing)
        else:
            await self._relay(client, gone, head, request)
        return channel.http.our_state is h11.DONE and channel.http.their_state is h11.DONE

    async def _answer(self, channel: Channel, gone: asyncio.Event, handler: Handler, request: Request) -> None:
        if request.api_version is not None:
            refusal = await self.engine.refusal(request.api_version)
            if refusal is not None:
                await local.decline(channel, gone, request.method, Response.error(400, refusal))
                return
        await local.answer(channel, gone, handler, request, self.explain)

    async def _relay(self, client: _Client, gone: asyncio.Event, head: h11.Request, request: Request) -> None:
        try:
            connection = await connect(self.engine.path)
        except errors.EngineDown as error:
            await local.decline(client.channel, gone, request.method, Response.error(503, str(error)))
            return
        try:
            with closing(connection):
                relay = Relay(client.channel, gone, Channel(connection, h11.CLIENT), self.hook)
                await relay.run(head, request, client.hangups)
        except errors.EngineDown as error:
            await local.respond(client.channel, gone, request.method, Response.error(503, str(error)))


@dataclass(frozen=True, slots=True)
class _Client:
    channel: Channel
    credentials: Credentials
    hangups: Hangups


def parse(head: h11.Request, caller: Credentials | None) -> Request:
    """The request as handlers see it, its body still to come."""
    target = head.target.decode("latin-1")
    parts = urlsplit(target if target.startswith("http") else f"http://docker{target}")
    versioned = _VERSIONED.fullmatch(parts.path)
    version, path = (versioned[1], versioned[2]) if versioned else (None, parts.path)
    return Request(
        method=head.method.decode("latin-1"),
        path=unquote(path),
        api_version=version,
        query=Query.parse(parts.query),
        headers=decoded(head.headers.raw_items()),
        credentials=caller,
        target=target,
    )


async def _refuse(channel: Channel, gone: asyncio.Event, error: h11.RemoteProtocolError) -> None:
    if channel.http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
        await local.respond(
            channel, gone, "GET", Response.error(error.error_status_hint, f"not an HTTP request: {error}")
        )


async def _accept(listener: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            log.error("cannot accept a client on the control socket for now: %s", error.strerror)
            await asyncio.sleep(_BREATH)
        else:
            connection.setblocking(False)
            return connection
