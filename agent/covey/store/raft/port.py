# SPDX-License-Identifier: GPL-3.0-or-later
"""The Raft port: accepts connections, shakes hands with a few at a time, and tells of those it refuses.

Never in it: who may connect, which the links that it is given check; what is said on them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from covey.store.raft import sockets
from covey.store.raft.links import Link, Refused
from covey.store.raft.wire import Hello

_log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 5.0
#: Strangers' handshakes under way at once; more wait in the kernel's queue.
MAX_HANDSHAKES = 32
#: A refusal for the same reason is told once in so many seconds; that many of them are remembered.
REPEAT, MAX_TOLD = 60.0, 256


class Serving(Protocol):
    """Today's TLS context, asked for at every connection so that certificates can change under way."""

    def server(self) -> ssl.SSLContext:
        """Requires a client certificate."""


class Port:
    """Where the other managers call.  ``make_link`` is for each connection, ``over`` is called with each task's end."""

    def __init__(
        self,
        contexts: Serving,
        hello: Hello,
        make_link: Callable[[], Link],
        over: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._contexts, self._hello, self._make_link, self._over = contexts, hello, make_link, over
        self._accepting: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_HANDSHAKES)
        self._server: asyncio.Task[None] | None = None
        self.refusals = 0
        self._told: dict[tuple[str, str], float] = {}

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; returns the port, which is a free one if ``port`` is 0."""
        listener = await sockets.open_listener(host, port)
        self._server = asyncio.get_running_loop().create_task(self._accept(listener), name="raft-accept")
        self._server.add_done_callback(self._over)
        self._server.add_done_callback(lambda _: listener.close())  # which it does not if cancelled at once
        bound: int = listener.getsockname()[1]
        return bound

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """All that runs for it: once cancelled, nothing more is accepted, and what is not greeted is dropped."""
        return [*self._accepting, *([] if self._server is None else [self._server])]

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._slots.acquire()
                connection = await sockets.next_connection(listener)
                task = loop.create_task(self._greet(connection), name="raft-handshake")
                self._accepting.add(task)
                task.add_done_callback(functools.partial(self._greeted, connection))
        finally:
            listener.close()

    def _greeted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            connection.close()
        self._accepting.discard(task)
        self._slots.release()
        self._over(task)

    async def _greet(self, connection: socket.socket) -> None:
        sockets.tune(connection)
        source = sockets.caller_of(connection)
        try:
            _, link = await asyncio.get_running_loop().connect_accepted_socket(
                self._make_link,
                connection,
                ssl=self._contexts.server(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, Refused) as error:
            self._refuse(source, str(error) or type(error).__name__)
            connection.close()
            return
        if link.refusal:
            self._refuse(source, link.refusal)
            return
        link.send(self._hello)

    def _refuse(self, source: str, reason: str) -> None:
        self.refusals += 1
        now = asyncio.get_running_loop().time()
        if now - self._told.get((source, reason), -REPEAT) < REPEAT:
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[source, reason] = now
        _log.warning("connection from %s to the Raft port refused: %s", source, reason)
