# SPDX-License-Identifier: GPL-3.0-or-later
"""The control API as a whole: who answers a call, this node, this manager as leader, or the leader elsewhere.

A call is answered as soon as there is a leader, so that an election costs a client a moment and no error; a write that
is passed on twice for that carries one request id and takes effect once.  Never in it: what any call means.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec

from covey.api import errors as api_errors
from covey.api import routes
from covey.api.call import Call, ManagerCall, with_request_id
from covey.api.http import Request, Response
from covey.api.lastknown import LastKnown
from covey.api.ports import Engine, LocalState, Managing, NodeLife
from covey.api.routes import Route
from covey.model.clock import Clock
from covey.model.codec import UNREADABLE
from covey.model.errors import CoveyError, Locked, NotFound, NotInCluster, NotLeader, Unavailable
from covey.state.view import View
from covey.store.base import Store

#: How long a call waits for an election before it is told that there is no leader.
PATIENCE = 8.0
#: A manager that is asked too early after an election is asked again after this.
PAUSE = 0.2
READ_TIMEOUT = 5.0
READS = frozenset({"GET", "HEAD"})
#: On an answer that this manager gives of its own, since it can neither lead nor ask a leader (RFC 9111, 5.5).
STALE = '110 - "Response is Stale"'

OUTSIDE = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager. The managers are: {managers}."
)
NO_LEADER = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)


class _Failure(msgspec.Struct):
    code: str = ""


class ControlApi:
    """Answers the calls in the table; a ``Handler`` of the socket's front."""

    def __init__(self, node: NodeLife, engine: Engine, clock: Clock, patience: float = PATIENCE) -> None:
        self._node, self._engine, self._clock, self._patience = node, engine, clock, patience
        self._known = LastKnown(engine)

    def owns(self, method: str, path: str) -> bool:
        """Whether this call is ours at all."""
        return routes.is_ours(method, path)

    def body_limit(self, method: str, path: str) -> int:
        """How much body the call may have."""
        found = routes.find(method, path)
        return found[0].body_limit if found else routes.BODY_LIMIT

    async def handle(self, request: Request) -> Response:
        """The answer to a call on this node's socket."""
        try:
            return await self._handle(request)
        except CoveyError as error:
            return api_errors.to_response(error)

    async def answer_as_leader(self, request: Request) -> Response:
        """The answer to a call that another manager passed on; 503 with code NotLeader if this one does not lead."""
        try:
            route, args = _found(request)
            managing = self._node.managing()
            if managing is None or route.leader is None:
                raise NotLeader(None)
            return await self._lead(managing, route, args, request)
        except CoveyError as error:
            return api_errors.to_response(error)

    async def _handle(self, request: Request) -> Response:
        route, args = _found(request)
        if route.anywhere is not None:
            return await route.anywhere(Call(request, args, self._node, self._engine, self._known, self._clock))
        managing = self._node.managing()
        if managing is None:
            raise self._why_not()
        if request.method in READS and request.query.get("consistency") == "stale":
            return await self._run(managing, route, args, request, managing.store.view())
        try:
            return await self._by_leader(managing, route, args, with_request_id(request, self._clock.new_id()))
        except Unavailable:
            if request.method not in READS or not _held_up(managing.store):
                raise
            response = await self._run(managing, route, args, request, managing.store.view())
            return replace(response, headers=response.headers.replaced("Warning", STALE))

    async def _by_leader(self, managing: Managing, route: Route, args: dict[str, str], request: Request) -> Response:
        """Find out who leads, and have that manager answer; again while that changes."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        problem: CoveyError = Unavailable(NO_LEADER)
        while True:
            now = managing.store.leadership()
            tried = now.leader or ""
            try:
                if now.leading:
                    return await self._lead(managing, route, args, request)
                if now.leader and now.leader != self._node.status().node_id:
                    response = await _passed_on(managing, now.leader, request)
                    if not _came_too_early(response):
                        return response
                problem = _no_leader(managing.store)
            except NotLeader:
                problem = _no_leader(managing.store)
            except Unavailable as error:
                if now.leading:
                    raise
                problem = error
            if tried and managing.store.leadership().leader != tried:
                deadline = clock() + self._patience  # it was lost just now, however long it had been at work
            if clock() >= deadline or _is_alone_in_trouble(managing.store):
                raise problem
            await self._election(managing, deadline)

    async def _election(self, managing: Managing, deadline: float) -> None:
        """Until something changed, but not long: the other manager may need a moment that is not visible here."""
        pause = min(deadline, asyncio.get_running_loop().time() + PAUSE)
        before = managing.store.leadership()
        waiter = managing.store.changed()
        try:
            async with asyncio.timeout_at(pause):
                while managing.store.leadership() == before:
                    await waiter.wait()
        except TimeoutError:
            return

    async def _lead(self, managing: Managing, route: Route, args: dict[str, str], request: Request) -> Response:
        view = await managing.store.barrier(READ_TIMEOUT)
        return await self._run(managing, route, args, request, view)

    async def _run(
        self, managing: Managing, route: Route, args: dict[str, str], request: Request, view: View
    ) -> Response:
        if route.leader is None:
            raise NotFound("page", request.path)
        return await route.leader(ManagerCall(request, args, managing, self._clock, view))

    def _why_not(self) -> NotInCluster:
        report = self._node.status()
        if report.state is LocalState.INACTIVE:
            return NotInCluster(OUTSIDE)
        if report.state is LocalState.LOCKED:
            return Locked()
        managers = ", ".join(each.addr for each in report.managers) or "not known yet"
        return NotInCluster(WORKER.format(managers=managers))


def _held_up(store: Store) -> bool:
    """Whether nobody leads, and this manager itself could not: then what it knows is better than nothing."""
    return bool(store.trouble()) and store.leadership().leader is None


def _is_alone_in_trouble(store: Store) -> bool:
    """Whether waiting for another manager to lead is in vain."""
    return _held_up(store) and len(store.members()) == 1


def _no_leader(store: Store) -> Unavailable:
    return Unavailable(f"{NO_LEADER} On this manager, {store.trouble()}." if _held_up(store) else NO_LEADER)


def _found(request: Request) -> tuple[Route, dict[str, str]]:
    found = routes.find(request.method, request.path)
    if found is None:
        raise NotFound("page", f"{request.method} {request.path}")
    return found


async def _passed_on(managing: Managing, leader: str, request: Request) -> Response:
    """The leader's answer; Unavailable as soon as it no longer leads, for it may be gone without a word."""
    work = asyncio.create_task(managing.forward(leader, request), name="call passed on")
    watch = asyncio.create_task(_no_longer_leads(managing.store, leader), name="leader watched")
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Unavailable(f"manager {leader} was asked and is not the leader any more; it has not answered")
        return work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.wait({work, watch})


async def _no_longer_leads(store: Store, leader: str) -> None:
    waiter = store.changed()
    while store.leadership().leader == leader:
        await waiter.wait()


def _came_too_early(response: Response) -> bool:
    """The other manager does not lead, or not yet."""
    if response.status != 503 or not isinstance(response.body, bytes):
        return False
    try:
        return msgspec.json.decode(response.body, type=_Failure).code == NotLeader.__name__
    except UNREADABLE:
        return False
