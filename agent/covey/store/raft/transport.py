# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers' connections on the Raft port: mutual TLS, one connection in each direction; never a rule of Raft.

Each member dials every other one and speaks only on the connection it dialled; it listens on those it accepted.  So
there is no tie to break, and each direction heals by itself.  Who the peer is comes from its certificate, and is
checked before a byte of it is parsed; only nodes of current members get that far.  The first message either way is
``Hello``: its Raft id must be that of a current member and of the certificate's node, its address is where the speaker
can be dialled, its session tells a restarted peer, whose old connection is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from covey.model.errors import CoveyError, FailedPrecondition
from covey.store.raft import epoch as epochs
from covey.store.raft import sockets
from covey.store.raft.links import Link, Refused
from covey.store.raft.membership import ids_of, node_of
from covey.store.raft.port import Port, Serving
from covey.store.raft.wire import AnyMessage, Hello, Message

_log = logging.getLogger(__name__)

DIAL_TIMEOUT = 2.0
RETRY_FIRST, RETRY_MOST = 0.1, 1.0


class Contexts(Serving, Protocol):
    """Today's TLS contexts, asked for at every connection so that certificates can change under way."""

    def client(self) -> ssl.SSLContext:
        """Presents ours and checks the server's."""


#: The node id of the manager of this cluster whose certificate it is; raises CoveyError if it is no such thing.
Identify = Callable[[ssl.SSLObject], str]


class Handler(Protocol):
    """Who the network works for."""

    def connected(self, node_id: str) -> None:
        """We can speak to the member now."""

    def disconnected(self, node_id: str) -> None:
        """Not any more."""

    def receive(self, node_id: str, message: AnyMessage) -> None:
        """The member said something."""

    def moved(self, node_id: str, address: str) -> None:
        """The member is now to be dialled elsewhere."""

    def kick(self) -> None:
        """There is something to do: messages came in, or a slow connection took what it was sent."""

    def fail(self, error: BaseException) -> None:
        """Something broke that must not be survived."""

    def superseded(self, by: int) -> None:
        """The cluster has begun a later epoch than ours, without us."""


class Peer:
    """What is known of one member."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.speaking: Link | None = None
        self.listening: Link | None = None
        self.session = b""
        self.leaving = False
        self.wake, self.redial = asyncio.Event(), asyncio.Event()
        self.asked = False
        self.task: asyncio.Task[None] | None = None


class TlsNetwork:
    """The connections of one manager."""

    def __init__(self, hello: Hello, contexts: Contexts, identify: Identify) -> None:
        self._contexts, self._identify = contexts, identify
        self._hello = hello
        #: A voter of an earlier epoch has to learn that this is a later one; without a session it is no greeting.
        self._farewell = Hello("", b"", hello.epoch) if hello.epoch else None
        self._peers: dict[str, Peer] = {}
        #: Newer addresses than the log has, as the nodes themselves said.
        self.hints: dict[str, str] = {hello.raft_id: hello.address}
        self._port = Port(contexts, hello, self._link_of_caller, self._ended)
        self.handler: Handler

    # -- what the core asks for

    def post(self, node_id: str, message: Message) -> bool:
        """Send on the connection we dialled, if it stands."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.speaking is not None and peer.speaking.send(message)

    def room(self, node_id: str) -> bool:
        """Whether that connection keeps up."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.speaking is not None and peer.speaking.room

    def asked(self) -> bool:
        """Whether each of them was dialled once."""
        return all(peer.asked for peer in self._peers.values())

    def admit(self, node_id: str, address: str) -> None:
        """Dial this node until it is expelled, at ``address`` unless it told us a newer one."""
        if node_id in self._peers:
            return
        peer = self._peers[node_id] = Peer(self.hints.get(node_id, address))
        peer.task = asyncio.get_running_loop().create_task(self._keep(node_id, peer), name=f"raft-dial-{node_id}")
        peer.task.add_done_callback(self._ended)

    def expel(self, node_id: str) -> None:
        """Hang up, once what was said to it has left, and stop dialling."""
        peer = self._peers.pop(node_id, None)
        if peer is None:
            return
        speaking, peer.leaving = peer.speaking, True
        if peer.task is not None:
            peer.task.cancel()
        if peer.listening is not None:
            peer.listening.close()
        if speaking is not None:
            speaking.finish()
            self.handler.disconnected(node_id)

    def redial(self) -> None:
        """Show every member our newest certificate; each connection is let go once the one after it stands."""
        for peer in self._peers.values():
            peer.redial.set()

    # -- life

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; returns the port, which is a free one if ``port`` is 0."""
        return await self._port.listen(host, port)

    @property
    def refusals(self) -> int:
        """How many connections were refused so far."""
        return self._port.refusals

    async def close(self) -> None:
        """Drop everything at once."""
        tasks = [*self._port.tasks, *(peer.task for peer in self._peers.values())]
        for task in tasks:
            if task is not None:
                task.cancel()
        for peer in self._peers.values():
            for link in (peer.speaking, peer.listening):
                if link is not None:
                    link.close()
        self._peers.clear()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.handler.fail(error)

    # -- those who call

    def _link_of_caller(self) -> Link:
        return Link(self, self._check_caller, self._heard_caller, self._lost_caller)

    def _check_caller(self, tls: ssl.SSLObject) -> str:
        node_id = self._identified(tls)
        if not ids_of(node_id, self._peers):
            raise Refused(f"node {node_id} is not a voter of this cluster, as far as known here", self._farewell)
        return node_id

    def _identified(self, tls: ssl.SSLObject) -> str:
        try:
            return self._identify(tls)
        except CoveyError as error:
            raise Refused(str(error)) from error

    def _heard_caller(self, link: Link, message: AnyMessage) -> None:
        if isinstance(message, Hello):
            self._greeted_by(link, message)
            return
        peer = self._peers.get(link.raft_id)
        if peer is None or peer.listening is not link:
            raise Refused("a message before the greeting, or on a connection that was replaced")
        self.handler.receive(link.raft_id, message)

    def _require_same_epoch(self, node_id: str, hello: Hello) -> None:
        ours = self._hello.epoch
        if hello.epoch > ours:
            self.handler.superseded(hello.epoch)
        if hello.epoch != ours:
            raise Refused(
                f"manager {node_id} is of the cluster as it was {epochs.at(hello.epoch)}, this one as it was "
                f"{epochs.at(ours)}",
                self._hello,
            )
        if not hello.session:
            raise Refused("it does not take this node for a voter of its cluster")

    def _greeted_by(self, link: Link, hello: Hello) -> None:
        self._require_same_epoch(link.node_id, hello)
        link.raft_id = _raft_id(link, hello)
        peer = self._peers.get(link.raft_id)
        if peer is None:
            raise Refused(f"{link.raft_id} is not a voter of this cluster (any more), as far as known here")
        if peer.listening is not None and peer.listening is not link:
            peer.listening.close()
        peer.listening = link
        if peer.session not in (b"", hello.session) and peer.speaking is not None:
            peer.speaking.close()
        peer.session = hello.session
        if hello.address and hello.address != peer.address:
            peer.address = self.hints[link.raft_id] = hello.address
            self.handler.moved(link.raft_id, hello.address)
        peer.wake.set()

    def _lost_caller(self, link: Link) -> None:
        peer = self._peers.get(link.raft_id)
        if peer is not None and peer.listening is link:
            peer.listening = None

    # -- dialling

    async def _keep(self, node_id: str, peer: Peer) -> None:
        """Hold a connection to one member, for ever."""
        pause, told = RETRY_FIRST, ""
        while True:
            peer.wake.clear()
            peer.redial.clear()
            try:
                link = await self._dial_member(node_id, peer.address)
            except (OSError, Refused) as error:
                peer.asked = True
                if told != str(error):
                    told = str(error)
                    _log.warning("manager %s cannot be reached at %s: %s", node_id, peer.address, error or "no answer")
                # Not wait_for: before Python 3.12 it loses a cancellation that comes together with what it waits for.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await peer.wake.wait()
                pause = min(2 * pause, RETRY_MOST)
                continue
            pause, told = RETRY_FIRST, ""
            _log.info("connected to manager %s at %s", node_id, peer.address)
            await self._speak(node_id, peer, link)
            _log.info("connection to manager %s at %s lost", node_id, peer.address)

    async def _speak(self, node_id: str, peer: Peer, link: Link) -> None:
        """Use the connection while it lasts, and those that take its place."""
        peer.asked = True
        newer: Link | None = link
        while newer is not None:
            link = newer
            peer.speaking, peer.session = link, link.greeting.result().session
            self.handler.connected(node_id)
            self.handler.kick()
            try:
                newer = await self._newer(node_id, peer, link)
            finally:
                if not peer.leaving:
                    link.close()
                if peer.speaking is link and self._peers.get(node_id) is peer:
                    self.handler.disconnected(node_id)
                peer.speaking = None

    async def _newer(self, node_id: str, peer: Peer, link: Link) -> Link | None:
        """A connection made because of ``redial``; None if ``link`` is gone before there is one."""
        while not link.gone.done():
            asked = asyncio.ensure_future(peer.redial.wait())
            waits: list[asyncio.Future[Any]] = [link.gone, asked]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
            if link.gone.done():
                break
            try:
                peer.redial.clear()
                return await self._dial_member(node_id, peer.address)
            except (OSError, Refused) as error:
                _log.warning("manager %s: no connection with the renewed certificate yet: %s", node_id, error)
                peer.redial.set()
                await asyncio.wait({link.gone}, timeout=RETRY_MOST)
        return None

    async def _dial_member(self, raft_id: str, address: str) -> Link:
        """The same to exactly that member."""
        link = await self._dial(node_of(raft_id), address)
        if link.raft_id != raft_id:
            link.close()
            raise Refused(f"it is {link.raft_id} now, no longer {raft_id}")
        return link

    async def _dial(self, node_id: str, address: str) -> Link:
        """A connection to exactly that node, greeted both ways; OSError, TimeoutError or Refused."""
        host, port = sockets.split_address(address)

        def check(tls: ssl.SSLObject) -> str:
            found = self._identified(tls)
            if found != node_id:
                raise Refused(f"{address} is node {found}, not {node_id}")
            return found

        async with asyncio.timeout(DIAL_TIMEOUT):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(self, check, _greeting_only, _nothing),
                host,
                port,
                ssl=self._contexts.client(),
                server_hostname=node_id,
            )
            try:
                link.tune()
                link.send(self._hello)
                hello = await link.greeted()
                self._require_same_epoch(node_id, hello)
                link.raft_id = _raft_id(link, hello)
            except BaseException:
                link.close()
                raise
        return link

    async def probe(self, node_id: str, address: str) -> str:
        """The Raft id of the node, if it answers there and takes us for a manager; else FailedPrecondition says why."""
        try:
            link = await self._dial(node_id, address)
        except (OSError, Refused) as error:
            reason = str(error) or "no answer"
            raise FailedPrecondition(
                f"manager {node_id} cannot be reached at {address} ({reason}); its Raft port must be open to the other "
                "managers"
            ) from error
        link.close()
        return link.raft_id


def _raft_id(link: Link, hello: Hello) -> str:
    """The speaker's Raft id; Refused unless it is of the node that its certificate names."""
    if node_of(hello.raft_id) != link.node_id:
        raise Refused(f"node {link.node_id} gives itself out as {hello.raft_id or 'nobody'}")
    return hello.raft_id


def _greeting_only(_link: Link, message: AnyMessage) -> None:
    if not isinstance(message, Hello):
        raise Refused("a message on a connection that we speak on")


def _nothing(_link: Link) -> None:
    return
