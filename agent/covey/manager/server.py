# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster server on TCP 2377: who may call what stands in one table, ``DOORS``.

Only the leader's view says who is a node and in which role.  A follower checks the certificate and passes the call on,
naming its caller; it is believed because only managers are.  Never in it: what a call does.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import h11
import msgspec
from aiohttp import web

from covey.api import errors as api_errors
from covey.api.front.server import parse
from covey.api.http import Request, Response
from covey.client import wire
from covey.client.managers import Call, Managers
from covey.control.dispatcher import Dispatcher
from covey.control.limits import RateLimit
from covey.control.roster import epoch_of, manager_at
from covey.control.signer import Signer, Wishes
from covey.manager.forward import of_call
from covey.manager.frames import SessionChannel
from covey.model import errors
from covey.model.admission import Wire
from covey.model.clock import Clock
from covey.model.objects import Node
from covey.model.spec import Role
from covey.security import tls
from covey.security.certificate import Peer
from covey.security.identity import Identity
from covey.store.base import Store

KIB = 1 << 10
#: For a caller to hand over its body, and to shake hands.
BODY_TIMEOUT, HANDSHAKE_TIMEOUT = 10.0, 5.0
#: How long a call waits for somebody to lead, and for a majority to agree that it is this manager.
ELECTION_PATIENCE = BARRIER_TIMEOUT = 5.0
#: Calls of one address on the paths open to strangers.
STRANGERS, STRANGERS_WINDOW = 60, 10.0
STOP_TIMEOUT = 0.4

log = logging.getLogger(__name__)


class Voting(Protocol):
    """The Raft group, as ``covey.manager.membership``; leader only."""

    async def join(self, node_id: str, raft_address: str, manager_address: str) -> Mapping[str, str]: ...
    async def leave(self, node_id: str) -> None: ...


class Needs(IntEnum):
    """What a caller must be; each rung includes those below."""

    NOTHING = 0
    CERTIFICATE = 1  # of this cluster
    NODE = 2  # that is in the store
    MANAGER = 3
    VOTER = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: ``peer`` is None for a stranger; ``node`` is what the leader knows of it, None on a follower.

    ``passed_on``: another manager was called, and asks for this caller.
    """

    address: str
    peer: Peer | None = None
    node: Node | None = None
    passed_on: bool = False

    @property
    def node_id(self) -> str:
        """Of the node for whom the call is made."""
        if self.node is not None:
            return self.node.id
        return self.peer.node_id if self.peer else ""


@dataclass(frozen=True, slots=True)
class Services:
    """What the server opens its doors to.  ``identity`` is asked for each connection, so that it may be renewed."""

    identity: Callable[[], Identity]
    store: Store
    clock: Clock
    signer: Signer
    dispatcher: Dispatcher
    voting: Voting
    answer_as_leader: Callable[[Request], Awaitable[Response]]
    managers: Managers


Serve = Callable[["ClusterServer", web.Request, Caller, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Door:
    """A path, what its caller must be, and the largest body; ``by_leader``: a follower passes it on."""

    method: str
    path: str
    needs: Needs
    serve: Serve
    body_limit: int = 0
    by_leader: bool = False


class ClusterServer:
    """A manager's cluster server."""

    def __init__(self, services: Services) -> None:
        self._of = services
        self._strangers = RateLimit(STRANGERS, STRANGERS_WINDOW)
        self._context: tuple[Identity, tls.ClusterContext] | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which differs from ``port`` if that is 0.  FailedPrecondition if it is taken."""
        application = web.Application(client_max_size=max(door.body_limit for door in DOORS) + 1)
        for door in DOORS:
            application.router.add_route(door.method, door.path, self._handler(door))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_TIMEOUT)
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None  # noqa: S101 - set up one line ago
        context = self._fresh_context()
        context.sni_callback = self._renew_context
        try:
            self._listener = await loop.create_server(
                server,
                host,
                port,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=STOP_TIMEOUT,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise errors.FailedPrecondition(
                f"cannot listen on {host}:{port}: {error.strerror}; `ss -ltnp` shows who has the port"
            ) from error
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Send the workers elsewhere and close every connection, within a second."""
        if self._listener is not None:
            self._listener.close()
        await self._of.dispatcher.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- certificates

    def _fresh_context(self) -> tls.ClusterContext:
        who = self._of.identity()
        if self._context is None or self._context[0] is not who:
            self._context = (who, tls.server_context(who, "optional"))
        return self._context[1]

    def _renew_context(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Show the newest certificate to each new connection."""
        connection.context = self._fresh_context()

    # -- admission to a call

    def _handler(self, door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                caller = self._admit(door, request)
                body = await _read_body(request, door.body_limit)
                if door.by_leader and not self._of.store.leadership().leading:
                    return await self._pass_on(request, caller, body)
                return await door.serve(self, request, caller, body)
            except errors.CoveyError as error:
                log.info("%s %s from %s: %s", request.method, request.path, request.remote, error)
                return await _answer(api_errors.to_response(error))
            except (web.HTTPException, ConnectionError):
                raise  # aiohttp's own answers, and callers that are gone
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log all of it
                return await _answer(api_errors.explain(error))

        return handle

    def _admit(self, door: Door, request: web.Request) -> Caller:
        """Who calls, if the door opens to them; else raises Forbidden."""
        connection = request.transport.get_extra_info("ssl_object") if request.transport else None
        if connection is None:
            raise errors.Unavailable("the connection is gone")
        address = request.remote or ""
        shown = connection.getpeercert(binary_form=True) is not None
        peer = tls.peer(connection) if shown or door.needs is not Needs.NOTHING else None
        if door.needs is Needs.NOTHING and (peer is None or peer.node_id not in self._of.store.view().nodes):
            self._slow_down(address)
        if peer is None:
            return Caller(address)
        caller = Caller(address, self._holding(peer, connection))
        if not self._of.store.leadership().leading:
            return _by_certificate(door.needs, caller)
        return self._known(door.needs, self._on_behalf(request, caller))

    def _holding(self, peer: Peer, connection: ssl.SSLObject) -> Peer:
        """The peer, unless its connection has outlived its certificate, or the root that vouched for it."""
        if peer.not_after < self._of.clock.now():
            raise errors.Forbidden(f"the certificate of node {peer.node_id} has ended: call again with a renewed one")
        if connection.context is not self._fresh_context() and not tls.holds(connection, self._of.identity()):
            raise errors.Forbidden(f"the root of node {peer.node_id}'s certificate has been replaced: renew it")
        return peer

    def _slow_down(self, address: str) -> None:
        seconds = self._strangers.take(address, self._of.clock.now())
        if seconds:
            raise errors.FailedPrecondition(f"too many calls from {address}: wait {seconds:.0f} s and try again")

    def _on_behalf(self, request: web.Request, caller: Caller) -> Caller:
        """The caller for whom a manager speaks, if it does."""
        address = request.headers.get(wire.FOR_ADDRESS)
        if address is None:
            return caller
        self._known(Needs.MANAGER, caller)
        node_id = request.headers.get(wire.FOR_NODE)
        if node_id is None:
            return Caller(address, passed_on=True)
        peer = replace(caller.peer, node_id=node_id) if caller.peer else None
        return Caller(address, peer, passed_on=True)

    def _known(self, needs: Needs, caller: Caller) -> Caller:
        """The caller with what the leader knows of it, if that is enough."""
        if needs <= Needs.CERTIFICATE:
            return caller
        if not caller.passed_on:
            _by_certificate(needs, caller)
        node = self._of.store.view().nodes.get(caller.node_id)
        if node is None:
            raise errors.Forbidden(f"node {caller.node_id or '(none named)'} is not in this cluster: it was removed")
        if needs >= Needs.MANAGER and node.role is not Role.MANAGER:
            raise errors.Forbidden(f"node {node.id} is not a manager (any more)")
        if needs >= Needs.VOTER and not node.manager_address:
            raise errors.Forbidden(f"node {node.id} has no vote in this cluster (yet)")
        return replace(caller, node=node)

    # -- passing on

    async def _pass_on(self, request: web.Request, caller: Caller, body: bytes) -> web.StreamResponse:
        """Have the leader answer; a call passed on once is not passed on again."""
        if wire.FOR_ADDRESS in request.headers:
            raise errors.NotLeader(self._of.store.leadership().leader)
        address = await self._leader_address()
        headers = [(wire.FOR_ADDRESS, caller.address)]
        if caller.peer is not None:
            headers.append((wire.FOR_NODE, caller.peer.node_id))
        answer = await self._of.managers.relay(address, Call(request.method, request.path, headers, body))
        return web.Response(status=answer.status, body=answer.body, content_type="application/json")

    async def _leader_address(self) -> str:
        store = self._of.store
        waiter = store.changed()
        try:
            async with asyncio.timeout(ELECTION_PATIENCE):
                while True:
                    await waiter.wait()
                    leader = manager_at(store.view(), store.leadership().leader)
                    if leader is not None and leader.node_id != self._of.identity().node_id:
                        return leader.address
        except TimeoutError:
            raise errors.Unavailable("no manager leads now (no majority, or an election is on): try again") from None

    # -- behind the doors

    async def root(self, _request: web.Request, _caller: Caller, _body: bytes) -> web.StreamResponse:
        """The root certificate that join tokens name."""
        clusters = self._of.store.view().clusters.values()
        root = next((cluster.root_certificate for cluster in clusters), self._of.identity().root)
        return web.Response(body=root, content_type="application/x-pem-file")

    async def join(self, _request: web.Request, caller: Caller, body: bytes) -> web.StreamResponse:
        """Let in the holder of a token."""
        call = wire.decode(body, wire.JoinCall)
        token = call.token.reveal().decode()
        wishes = Wishes(role=Role.WORKER, hostname=call.hostname, availability=call.availability)
        return _json(await self._of.signer.join(call.csr.encode(), token, wishes, caller.address))

    async def renew(self, _request: web.Request, caller: Caller, body: bytes) -> web.StreamResponse:
        """A new certificate for the caller."""
        csr = wire.decode(body, wire.RenewCall).csr.encode()
        return _json(await self._of.signer.renew(caller.node_id, csr))

    async def session(self, request: web.Request, caller: Caller, _body: bytes) -> web.StreamResponse:
        """The caller's session, which ends with its certificate; the dispatcher says whether it is a node."""
        if caller.peer is None:
            raise errors.Forbidden("a session needs a certificate")
        channel = await SessionChannel.accept(request, caller.address)
        try:
            async with asyncio.timeout(caller.peer.not_after - self._of.clock.now()):
                await self._of.dispatcher.serve(caller.peer.node_id, channel)
        except TimeoutError:
            log.warning("node %s: session ended with its certificate, which was not renewed", caller.peer.node_id)
        return channel.response

    async def raft_members(self, _request: web.Request, caller: Caller, _body: bytes) -> web.StreamResponse:
        """Who votes, for a manager that is about to ask for its vote, or does not know whether it has one still."""
        store = self._of.store
        view = await store.barrier(BARRIER_TIMEOUT)
        node = view.nodes.get(caller.node_id)
        votes = node is not None and bool(node.manager_address)
        return _json(wire.RaftMembers(members=dict(store.voters()), epoch=epoch_of(view), votes=votes))

    async def raft_join(self, _request: web.Request, caller: Caller, body: bytes) -> web.StreamResponse:
        """Give the caller its vote."""
        call = wire.decode(body, wire.RaftJoinCall)
        members = await self._of.voting.join(caller.node_id, call.raft_addr, call.addr)
        return _json(wire.RaftMembers(members=dict(members)))

    async def raft_leave(self, _request: web.Request, caller: Caller, _body: bytes) -> web.StreamResponse:
        """Take the caller's vote away."""
        await self._of.voting.leave(caller.node_id)
        return web.Response(status=204)

    async def control(self, request: web.Request, _caller: Caller, body: bytes) -> web.StreamResponse:
        """A control call that another manager passed on, answered if this one leads."""
        leadership = self._of.store.leadership()
        if not leadership.leading:
            raise errors.NotLeader(leadership.leader)
        target = request.raw_path.removeprefix(wire.API)
        headers = [("Host", "covey"), *of_call(tuple(request.headers.items()))]
        head = h11.Request(method=request.method, target=target, headers=headers)
        return await _answer(await self._of.answer_as_leader(replace(parse(head, None), body=body)))


#: Every door of the cluster server.
DOORS: tuple[Door, ...] = (
    Door("GET", wire.ROOT, Needs.NOTHING, ClusterServer.root),
    Door("POST", wire.JOIN, Needs.NOTHING, ClusterServer.join, 16 * KIB, by_leader=True),
    Door("POST", wire.RENEW, Needs.NODE, ClusterServer.renew, 16 * KIB, by_leader=True),
    Door("GET", wire.SESSION, Needs.CERTIFICATE, ClusterServer.session),
    Door("GET", wire.RAFT_MEMBERS, Needs.MANAGER, ClusterServer.raft_members, by_leader=True),
    Door("POST", wire.RAFT_JOIN, Needs.MANAGER, ClusterServer.raft_join, 4 * KIB, by_leader=True),
    Door("POST", wire.RAFT_LEAVE, Needs.MANAGER, ClusterServer.raft_leave, 4 * KIB, by_leader=True),
    Door("*", wire.API + "/{target:.*}", Needs.VOTER, ClusterServer.control, 8192 * KIB),
)


def _by_certificate(needs: Needs, caller: Caller) -> Caller:
    """The caller, if its certificate alone does not close the door."""
    if needs >= Needs.MANAGER and (caller.peer is None or caller.peer.role is not Role.MANAGER):
        raise errors.Forbidden(
            f"node {caller.node_id or '(none)'} is a worker: only a manager's certificate opens this"
        )
    return caller


async def _read_body(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise errors.InvalidArgument(f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise errors.InvalidArgument(f"the body did not arrive within {BODY_TIMEOUT:g} s") from None
    return bytes(body)


def _json(body: Wire) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def _answer(response: Response) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b"".join([chunk async for chunk in response.body])
    return web.Response(status=response.status, headers=of_call(response.headers.items()), body=body)
