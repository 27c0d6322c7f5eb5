# SPDX-License-Identifier: GPL-3.0-or-later
"""The dispatcher: the sessions of all workers, on the manager that leads.

A session's end does not make its node down, only missed heartbeats do; so a flap costs nothing.  Never in it: which
task runs where, whether a node is down, the transport.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from covey.control.limits import RateLimit
from covey.control.observations import Observation, Observations
from covey.control.roster import manager_at, managers_of
from covey.control.session import Ended, ServerChannel, Session, removed
from covey.model.changes import ObserveNode, ObserveTask
from covey.model.clock import Clock
from covey.model.errors import Conflict, InvalidArgument, NotLeader
from covey.model.objects import NodeDescription, NodeState, NodeStatus, TaskStatus
from covey.model.session import (
    OLDEST_PROTOCOL,
    PROTOCOL,
    Describe,
    FromDispatcher,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Redirect,
    Refused,
    Restarting,
    RestartNoted,
    StatusAck,
    StatusReport,
    common_protocol,
)
from covey.plan.liveness import MISSED, RESTART_GRACE
from covey.store.base import Store

#: How long a worker may take from the connection to its Hello.
HELLO_TIMEOUT = 5.0
#: Registrations of one node, so that two hosts with one identity cannot keep the managers busy.  Each change of its
#: role or certificate and each restart of its agent needs one; a recovery, a promotion and a lock in a row need five.
REGISTRATIONS, REGISTRATION_WINDOW = 8, 8.0
#: A burst of changes is told once.
DEBOUNCE = 0.02
#: How long a worker may take to accept its farewell.
FAREWELL_TIMEOUT = 0.5

log = logging.getLogger(__name__)


class Dispatcher:
    """Serves workers while this manager leads, and sends them to the leader while it does not."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._observations = Observations(store, clock)
        self._registrations = RateLimit(REGISTRATIONS, REGISTRATION_WINDOW)
        self._sessions: dict[str, Session] = {}
        self._heard: dict[str, float] = {}
        self._closing = False

    def heard(self) -> Mapping[str, float]:
        """When each node's last sign of life came to this manager, by node id; one from before it led is harmless."""
        return self._heard

    async def run(self) -> None:
        """Until cancelled: tell sessions what changed, and send them away when the leadership is gone."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._observations.run(), name="dispatcher observations")
            group.create_task(self._follow(), name="dispatcher news")

    async def close(self) -> None:
        """Send every worker to another manager; new ones too, from now on."""
        self._closing = True
        for session in self._sessions.values():
            session.finish(self._redirection("this manager is stopping"))

    async def serve(self, node_id: str, channel: ServerChannel) -> None:
        """One connection of the node that this id's certificate was shown for; returns when it is over."""
        try:
            hello = await self._hello(node_id, channel)
            await self._hold(Session(self._clock.new_id(), node_id, channel, self._store.view()), hello)
        except Ended as end:
            log.info("node %s: session over: %s", node_id, end)
            await _farewell(channel, end)
        except ConnectionError as error:
            log.info("node %s: connection lost: %s", node_id, error)
        except TimeoutError:
            log.info("node %s: connection closed: nothing heard in time", node_id)
        finally:
            await channel.close()

    async def _follow(self) -> None:
        waiter = self._store.changed()
        while True:
            await waiter.wait()
            await asyncio.sleep(DEBOUNCE)
            if not self._store.leadership().leading:
                for session in self._sessions.values():
                    session.finish(self._redirection("the leadership changed"))
            view = self._store.view()
            for gone in self._heard.keys() - view.nodes.keys():
                del self._heard[gone]
            for session in self._sessions.values():
                if session.is_behind(view):
                    session.woken.set()

    async def _hello(self, node_id: str, channel: ServerChannel) -> Hello:
        """The worker's first message, if it may have a session; else raises Ended."""
        async with asyncio.timeout(HELLO_TIMEOUT):
            hello = await channel.receive()
        leading = self._store.leadership().leading
        if node_id not in self._store.view().nodes:
            if leading:
                raise Ended("the node is not in the cluster", removed(node_id))
            raise _refusal(f"this manager does not lead and does not know node {node_id}: ask another one")
        if self._closing or not leading:
            raise self._redirection("this manager does not lead")
        if not isinstance(hello, Hello):
            raise _refusal(f"a session begins with Hello, not {type(hello).__name__}")
        if common_protocol(hello.protocol, hello.oldest) is None:
            raise _refusal(
                f"the node's agent ({hello.description.agent_version or 'unknown release'}) speaks protocols "
                f"{hello.oldest} to {hello.protocol}, this manager {OLDEST_PROTOCOL} to {PROTOCOL}: upgrade the older",
                final=hello.protocol < OLDEST_PROTOCOL,
            )
        self._heard[node_id] = self._clock.now()  # one that has to wait lives
        seconds = self._registrations.take(node_id, self._clock.now())
        if seconds:
            raise _refusal(
                f"more than {REGISTRATIONS} registrations in {REGISTRATION_WINDOW:g} s, wait {seconds:.3g} s; "
                f"do two hosts have the identity of node {node_id}?"
            )
        return hello

    async def _hold(self, session: Session, hello: Hello) -> None:
        """The session from Welcome to its end; always raises."""
        older = self._sessions.get(session.node_id)
        self._sessions[session.node_id] = session
        if older is not None:
            older.finish(Ended(f"replaced by session {session.id}"))
        try:
            await self._register(session.node_id, hello.description, session.channel.address)
            await session.channel.send(session.welcome(common_protocol(hello.protocol, hello.oldest) or PROTOCOL))
            log.info("node %s: session %s from %s", session.node_id, session.id, session.channel.address)
            await _until_first_ends(self._read(session), self._write(session), session.over())
        finally:
            if self._sessions.get(session.node_id) is session:
                del self._sessions[session.node_id]

    async def _register(self, node_id: str, description: NodeDescription, address: str) -> None:
        """Have it in the state that the node is ready, which also proves that this manager leads."""
        arrival = self._arrival(node_id, description, address)
        if not arrival:
            return
        try:
            await self._observations.submit(*arrival)
        except (NotLeader, Conflict) as refusal:
            raise self._redirection(str(refusal)) from refusal
        except InvalidArgument as refusal:
            raise _refusal(str(refusal)) from refusal

    def _arrival(self, node_id: str, description: NodeDescription, address: str) -> tuple[Observation, ...]:
        """What to write about a node that registers; nothing if all of it is known."""
        node = self._store.view().nodes[node_id]
        seen = node.status
        ready = seen.state is NodeState.READY and seen.address == address and not seen.back_by
        if ready and node.description == description:
            return ()
        status = NodeStatus(state=NodeState.READY, address=address, since=self._clock.now())
        return (ObserveNode(node_id, None if ready else status, description),)

    async def _read(self, session: Session) -> None:
        while True:
            async with asyncio.timeout(MISSED * session.period):
                message = await session.channel.receive()
            self._heard[session.node_id] = self._clock.now()
            match message:
                case Heartbeat():
                    session.post(HeartbeatAck())
                case Describe(description=description):
                    self._observations.submit(ObserveNode(session.node_id, None, description))
                case Restarting(within=within):
                    self._restarting(session, within)
                case StatusReport(sequence=sequence, statuses=statuses):
                    self._report(session, sequence, statuses)
                case Hello():
                    raise Ended("a second Hello in one session")

    def _restarting(self, session: Session, within: float) -> None:
        """Have it in the state until when this node's silence means nothing; its next registration takes it back."""
        node = self._store.view().nodes.get(session.node_id)
        if node is None:
            return
        grace = within if 0 < within < RESTART_GRACE else RESTART_GRACE
        log.info("node %s: its agent restarts and is expected back within %g s", session.node_id, grace)
        status = msgspec.structs.replace(node.status, back_by=self._clock.now() + grace)
        written = self._observations.submit(ObserveNode(session.node_id, status))
        written.add_done_callback(lambda done: _acknowledge(done, session, RestartNoted()))

    def _report(self, session: Session, sequence: int, statuses: Mapping[str, TaskStatus]) -> None:
        """Write what is new in a report, and acknowledge the report once that is in the state."""
        news = [
            ObserveTask(task_id, status)
            for task_id, status in statuses.items()
            if self._is_news(session.node_id, task_id, status)
        ]
        if not news:
            session.post(StatusAck(sequence=sequence))
            return
        written = self._observations.submit(*news)
        written.add_done_callback(lambda done: _acknowledge(done, session, StatusAck(sequence=sequence)))

    def _is_news(self, node_id: str, task_id: str, status: TaskStatus) -> bool:
        """Whether the state should learn of it: the task is there, is this node's, and was not seen further up."""
        task = self._store.view().tasks.get(task_id)
        if task is None:
            return False
        if task.node_id != node_id:
            log.warning("node %s reported on task %s, which is not its own; ignored", node_id, task_id)
            return False
        return status.state >= task.status.state and status != task.status

    async def _write(self, session: Session) -> None:
        while True:
            session.woken.clear()
            while session.outbox:
                await session.channel.send(session.outbox.popleft())
            for message in session.news(self._store.view()):
                await session.channel.send(message)
            await session.woken.wait()

    def _redirection(self, reason: str) -> Ended:
        view, leadership = self._store.view(), self._store.leadership()
        leader = None if leadership.leading else manager_at(view, leadership.leader)
        return Ended(reason, Redirect(leader=leader, managers=managers_of(view)))


def _acknowledge(written: asyncio.Future[None], session: Session, message: FromDispatcher) -> None:
    """Say so if it is in the state; if not, the worker repeats it or does without."""
    if not written.cancelled() and written.exception() is None:
        session.post(message)


def _refusal(reason: str, *, final: bool = False) -> Ended:
    return Ended(reason, Refused(reason=reason, final=final))


async def _until_first_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Run them side by side; the first to end cancels the rest, and its error is raised."""
    tasks = {asyncio.ensure_future(one) for one in work}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _farewell(channel: ServerChannel, end: Ended) -> None:
    if end.farewell is None:
        return
    try:
        async with asyncio.timeout(FAREWELL_TIMEOUT):
            await channel.send(end.farewell)
    except (ConnectionError, TimeoutError):
        log.debug("the worker was gone before it could be told: %s", end)
