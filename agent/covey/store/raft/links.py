# SPDX-License-Identifier: GPL-3.0-or-later
"""One TLS connection between two managers: identity first, then messages one way."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from covey.store.raft import sockets
from covey.store.raft.wire import AnyMessage, Frames, Hello, Malformed, Message, encode

_log = logging.getLogger(__name__)

_HIGH_WATER, _LOW_WATER = 4 << 20, 1 << 20


class Refused(Exception):
    """The other side is not who may speak here, or does not speak our language.

    ``farewell`` is the last thing it is told.
    """

    def __init__(self, reason: str, farewell: Message | None = None) -> None:
        super().__init__(reason)
        self.farewell = farewell


class _Kicked(Protocol):
    def kick(self) -> None:
        """There is something to do."""

    def fail(self, error: BaseException) -> None:
        """Something broke that must not be survived."""


class _Owner(Protocol):
    @property
    def handler(self) -> _Kicked:
        """Whom to wake."""


class Link(asyncio.Protocol):
    """A connection.  ``check`` tells the peer's node id or raises Refused; ``hear`` gets its messages."""

    def __init__(
        self,
        owner: _Owner,
        check: Callable[[ssl.SSLObject], str],
        hear: Callable[[Link, AnyMessage], None],
        lost: Callable[[Link], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._owner, self._check, self._hear, self._lost = owner, check, hear, lost
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        #: Of the certificate.
        self.node_id = ""
        #: Which member of that node it says to be.
        self.raft_id = ""
        self.refusal = ""
        self.room = False
        self.greeting: asyncio.Future[Hello] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at the certificate before anything else."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream was expected")
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        try:
            if not isinstance(tls, ssl.SSLObject):
                raise Refused("no TLS")
            self.node_id = self._check(tls)
        except Refused as refusal:
            self._refuse(refusal)
            return
        transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self.room = True

    def data_received(self, data: bytes) -> None:
        """Hand over the messages, then let what they mean be done once for all of them."""
        if self.refusal:
            return
        try:
            for message in self._frames.feed(data):
                self._take(message)
        except Malformed as refusal:
            _log.warning("connection of manager %s dropped: %s", self.node_id, refusal)
            self._drop(str(refusal))
        except Refused as refusal:
            _log.warning("connection of manager %s dropped: %s", self.node_id, refusal)
            self._refuse(refusal)
        except Exception as error:  # noqa: BLE001 - whatever the core could not take must stop the store
            self._owner.handler.fail(error)
            return
        self._owner.handler.kick()

    def _take(self, message: AnyMessage) -> None:
        if isinstance(message, Hello) and not self.greeting.done():
            self.greeting.set_result(message)
        if not self.refusal:
            self._hear(self, message)

    def pause_writing(self) -> None:
        """The other side is slower than we are."""
        self.room = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.room = True
        self._owner.handler.kick()

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell who waits."""
        self.room = False
        if not self.gone.done():
            self.gone.set_result(None)
        self._lost(self)

    async def greeted(self) -> Hello:
        """The other side's greeting; Refused if it hangs up first."""
        waits: list[asyncio.Future[Any]] = [self.greeting, self.gone]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self.refusal:
            raise Refused(self.refusal)
        if not self.greeting.done():
            raise Refused("it hung up; it may not take this node for a manager of its cluster")
        return self.greeting.result()

    def tune(self) -> None:
        """Have the socket notice soon that the other side is gone."""
        connection = self._transport.get_extra_info("socket") if self._transport else None
        if connection is not None:
            sockets.tune(connection)

    def send(self, message: Message) -> bool:
        """Send; False if the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(encode(message))
        return True

    def finish(self) -> None:
        """Hang up once what was said has left."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, refusal: Refused) -> None:
        """Hang up, after the last word if there is one."""
        if refusal.farewell is None or self._transport is None:
            self._drop(str(refusal))
            return
        self.refusal = str(refusal)
        self._transport.write(encode(refusal.farewell))
        self._transport.close()

    def _drop(self, reason: str) -> None:
        self.refusal = reason
        self.close()
