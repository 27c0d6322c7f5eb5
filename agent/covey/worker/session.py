# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversation with whichever manager leads: find it, keep it, find the next one.

Never in it: sockets and certificates (the ``Connector`` has those), containers, what a task is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from covey.model.clock import Clock
from covey.model.errors import CoveyError
from covey.model.objects import NodeDescription, TaskStatus
from covey.model.session import (
    OLDEST_PROTOCOL,
    PROTOCOL,
    Assignments,
    CertificateWanted,
    Describe,
    FromDispatcher,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Hello,
    ManagerAddress,
    ManagersChanged,
    Provisions,
    Redirect,
    Refused,
    Restarting,
    RestartNoted,
    RoleWanted,
    RootChanged,
    StatusAck,
    StatusReport,
    Welcome,
)
from covey.model.spec import Role
from covey.worker.outbox import Outbox
from covey.worker.parts import until_one_ends

log = logging.getLogger(__name__)

CONNECT_TIMEOUT, WELCOME_TIMEOUT, CLOSE_TIMEOUT = 2.0, 5.0, 1.0
#: Seconds for the manager to note that the agent restarts; what ends the agent is not kept waiting longer.
NOTE_TIMEOUT = 2.0
#: Heartbeat periods without an answer after which a manager counts as gone.
MISSED = 3
#: Seconds that a manager has to answer once there is a doubt about it.
DOUBT = 1.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
#: Between tries to open a connection with a renewed certificate; the old one serves meanwhile.
MOVE_PAUSE = 5.0
#: For so long nobody is believed who sends us back to a manager that was just silent: asking it costs time.
AVOID = 3.0
#: Between tries after a manager said that asking again is pointless: it may be a stale one, or be told to change.
FINAL_PAUSE = 30.0


class Channel(Protocol):
    """One connection to one manager."""

    async def send(self, message: FromWorker) -> None:
        """Raises ConnectionError once it has ended."""

    async def receive(self) -> FromDispatcher:
        """The next message; raises ConnectionError at the end."""

    async def close(self) -> None:
        """End it; a repeat is no error."""


class Connector(Protocol):
    """Opens channels; ``address`` is ``host:2377``.  Raises OSError or a CoveyError that says why not."""

    async def connect(self, address: str) -> Channel:
        """A channel on which nothing has been said yet."""


class Worker(Protocol):
    """What a session needs of the worker it speaks for."""

    @property
    def outbox(self) -> Outbox:
        """Statuses to report."""

    async def describe(self) -> NodeDescription:
        """The host's facts, for Hello."""

    def statuses(self) -> dict[str, TaskStatus]:
        """All that a manager may not know."""

    def provide(self, message: Provisions) -> None:
        """Keep them in memory, for the tasks that come next."""

    def assign(self, message: Assignments) -> None:
        """Do as it says."""

    async def managers_changed(self, managers: tuple[ManagerAddress, ...], epoch: int) -> None:
        """Keep them, and which epoch of the cluster they are of, for the next start."""

    def role_wanted(self, role: Role) -> None:
        """This node should become that."""

    def certificate_wanted(self) -> None:
        """This node should renew its certificate."""

    def root_changed(self, root: bytes) -> None:
        """This node should trust that root alone."""

    def refused(self, reason: str) -> None:
        """No manager will ever take this node again, says one."""


class SessionLost(Exception):
    """The conversation is over; ``moved`` names whom to ask next, ``silent`` means that nothing was said at all."""

    def __init__(self, reason: str, moved: ManagerAddress | None = None, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.moved, self.silent = moved, silent


class SessionRefused(SessionLost):
    """A manager says that asking again is pointless."""


class SessionMoves(SessionLost):
    """The conversation goes on with the same manager over a newer connection."""

    def __init__(self, channel: Channel) -> None:
        super().__init__("it goes on with the renewed certificate")
        self.channel = channel


@dataclass(frozen=True, slots=True)
class Standing:
    """How the session stands, for status displays; ``refusal``: a manager's last word, until a session stands again."""

    manager: str = ""
    session_id: str = ""
    error: str = "no manager was asked yet"
    refusal: str = ""


class Sessions:
    """One session after another.  ``managers`` are those to begin with, ``epoch`` the latest heard of."""

    def __init__(self, worker: Worker, connector: Connector, clock: Clock, managers: Iterable[ManagerAddress]) -> None:
        self.managers, self.epoch = tuple(managers), 0
        self.standing = Standing()
        self._worker, self._connector, self._clock = worker, connector, clock
        self._turn = 0
        self._doubted = asyncio.Event()
        self._channel: Channel | None = None
        self._noted = asyncio.Event()
        self._described: NodeDescription | None = None
        self._facts, self._moving = asyncio.Event(), asyncio.Event()
        self._period = self._answered = 0.0
        self._heard = 0
        self._failed, self._failed_until = "", 0.0

    def doubt(self) -> None:
        """Somebody has reason to think that another manager leads now: ask the present one for a sign of life."""
        self._doubted.set()

    def describe_again(self) -> None:
        """The host's facts may have changed."""
        self._facts.set()

    def move(self) -> None:
        """Go on over a new connection, and let the old one go only once that stands."""
        self._moving.set()

    async def announce_restart(self, within: float) -> None:
        """Have the managers know that this agent will be back; returns after a moment, whether they do or not."""
        if self._channel is None:
            return
        self._noted.clear()
        try:
            async with asyncio.timeout(NOTE_TIMEOUT):
                await self._channel.send(Restarting(within=within))
                await self._noted.wait()
        except (OSError, TimeoutError) as error:
            log.warning("the managers may not know that this agent restarts: %s", str(error) or "no answer in time")

    async def run(self) -> None:
        """Until cancelled."""
        pause, moved, redirects = 0.0, None, 0
        while True:
            address = moved.address if moved else self._next()
            lost = await self._converse(address) if address else SessionLost("no manager's address is known")
            while isinstance(lost, SessionMoves):
                lost = await self._converse(address, lost.channel)
            if self.standing.session_id:
                pause, redirects = 0.0, 0
            self._note(address, lost)
            moved, redirects = lost.moved, redirects + 1
            if moved is not None and redirects <= len(self.managers) and not self._avoided(moved.address):
                continue
            moved, redirects = None, 0
            pause = FINAL_PAUSE if isinstance(lost, SessionRefused) else min(FIRST_PAUSE + 2 * pause, LAST_PAUSE)
            await asyncio.sleep(pause * (0.5 + self._clock.random() / 2))

    def _next(self) -> str:
        """The managers in turn, those first that were not just silent; empty if none is known."""
        self._turn += 1
        turned = [self.managers[(self._turn + n) % len(self.managers)].address for n in range(len(self.managers))]
        return next((one for one in turned if not self._avoided(one)), turned[0] if turned else "")

    def _avoided(self, address: str) -> bool:
        return address == self._failed and asyncio.get_running_loop().time() < self._failed_until

    def _note(self, address: str, lost: SessionLost) -> None:
        if lost.silent:
            self._failed, self._failed_until = address, asyncio.get_running_loop().time() + AVOID
        error = f"manager {address}: {lost}" if address else str(lost)
        if error != self.standing.error and lost.moved is None:
            log.warning("%s; containers are left as they are", error)
        refusal = str(lost) if isinstance(lost, SessionRefused) else self.standing.refusal
        self.standing = Standing(error=error, refusal=refusal)

    async def _converse(self, address: str, channel: Channel | None = None) -> SessionLost:
        """A whole session, over ``channel`` if that is open already; returns why it ended."""
        try:
            channel = channel or await self._connect(address)
            await self._session(address, channel)
        except SessionLost as lost:
            return lost
        except TimeoutError:
            return SessionLost("it does not answer", silent=True)
        except (OSError, CoveyError) as error:
            return SessionLost(str(error) or type(error).__name__)
        finally:
            self._channel = None
            if channel is not None:
                await _close(channel)
        raise AssertionError("a session ends by raising")

    async def _connect(self, address: str) -> Channel:
        self._moving.clear()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await self._connector.connect(address)

    async def _session(self, address: str, channel: Channel) -> None:
        self._described = await self._worker.describe()
        await channel.send(Hello(description=self._described))
        async with asyncio.timeout(WELCOME_TIMEOUT):
            welcome = await channel.receive()
        if not isinstance(welcome, Welcome):
            raise self._unwelcome(welcome)
        if not OLDEST_PROTOCOL <= welcome.protocol <= PROTOCOL:
            raise SessionLost(f"it speaks protocol {welcome.protocol}, this agent {OLDEST_PROTOCOL} to {PROTOCOL}")
        if welcome.epoch < self.epoch:
            raise SessionLost("it speaks for the cluster as it was before it was recovered, and has no say any more")
        self.epoch = welcome.epoch
        log.info("manager %s: session %s", address, welcome.session_id)
        self.standing = Standing(manager=address, session_id=welcome.session_id, error="")
        self._period, self._answered = welcome.heartbeat_period, asyncio.get_running_loop().time()
        self._doubted.clear()
        await self._heard_of(welcome.managers)
        self._worker.outbox.restart(self._worker.statuses())
        self._channel = channel
        await self._together(address, channel)

    def _unwelcome(self, message: FromDispatcher) -> SessionLost:
        if isinstance(message, Redirect):
            self.managers = message.managers or self.managers
            leads = message.leader.address if message.leader else "nobody"
            return SessionLost(f"it does not lead, {leads} does", moved=message.leader)
        if isinstance(message, Refused) and message.final:
            self._worker.refused(message.reason)
            return SessionRefused(message.reason)
        if isinstance(message, Refused):
            return SessionLost(message.reason)
        return SessionLost(f"it began with {type(message).__name__}; this agent speaks protocol {PROTOCOL}")

    async def _together(self, address: str, channel: Channel) -> None:
        """Listen, beat, report; the first of them to end ends all."""
        raised = await until_one_ends(
            listener=self._listen(channel),
            heartbeats=self._beat(channel),
            watch=self._watch(),
            reports=self._report(channel),
            description=self._describe(channel),
            move=self._move(address),
        )
        raise _first(raised)

    async def _listen(self, channel: Channel) -> None:
        expected = 1
        while True:
            message = await channel.receive()
            self._answered, self._heard = asyncio.get_running_loop().time(), self._heard + 1
            if isinstance(message, Assignments):
                if message.sequence != expected:
                    raise SessionLost(f"assignments {expected} are missing ({message.sequence} came)")
                expected += 1
                self._worker.assign(message)
            elif isinstance(message, Provisions):
                self._worker.provide(message)
            elif isinstance(message, StatusAck):
                self._worker.outbox.acknowledge(message.sequence)
            elif isinstance(message, ManagersChanged):
                await self._heard_of(message.managers)
            elif isinstance(message, RestartNoted):
                self._noted.set()
            elif not isinstance(message, HeartbeatAck):
                self._about_this_node(message)

    def _about_this_node(self, message: FromDispatcher) -> None:
        """What the node itself shall be; whatever else it is ends the session."""
        if isinstance(message, RoleWanted):
            self._worker.role_wanted(message.role)
        elif isinstance(message, CertificateWanted):
            self._worker.certificate_wanted()
        elif isinstance(message, RootChanged):
            self._worker.root_changed(message.root)
        else:
            raise self._unwelcome(message)

    async def _heard_of(self, managers: tuple[ManagerAddress, ...]) -> None:
        if managers:
            self.managers = managers
            await self._worker.managers_changed(managers, self.epoch)

    async def _beat(self, channel: Channel) -> None:
        while True:
            await channel.send(Heartbeat())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period):
                    await self._doubted.wait()
            if self._doubted.is_set():
                self._doubted.clear()
                await self._prove(channel)

    async def _prove(self, channel: Channel) -> None:
        """One heartbeat that must be answered soon."""
        heard = self._heard
        await channel.send(Heartbeat())
        await asyncio.sleep(min(DOUBT, self._period))
        if self._heard == heard:
            raise SessionLost("it does not answer, and another may lead", silent=True)

    async def _watch(self) -> None:
        """End the session when nothing was heard for too long."""
        loop = asyncio.get_running_loop()
        while True:
            left = self._answered + MISSED * self._period - loop.time()
            if left <= 0:
                raise SessionLost(f"it has not answered for {MISSED * self._period:g} s", silent=True)
            await asyncio.sleep(left)

    async def _move(self, address: str) -> None:
        """Once asked to, open a new connection beside the present one, as often as it takes."""
        await self._moving.wait()
        while True:
            try:
                raise SessionMoves(await self._connect(address))
            except (OSError, CoveyError) as error:  # a time-out is an OSError
                log.warning("manager %s: the session cannot move to the renewed certificate yet: %s", address, error)
                await asyncio.sleep(MOVE_PAUSE)

    async def _report(self, channel: Channel) -> None:
        while True:
            sequence, statuses = await self._worker.outbox.take()
            await channel.send(StatusReport(sequence=sequence, statuses=statuses))

    async def _describe(self, channel: Channel) -> None:
        while True:
            await self._facts.wait()
            self._facts.clear()
            description = await self._worker.describe()
            if description != self._described:
                self._described = description
                await channel.send(Describe(description=description))


def _first(raised: list[BaseException]) -> SessionLost:
    """The reason that says most: our own before the connection's.  A fault of ours is raised as it is."""
    expected = (SessionLost, OSError, CoveyError)
    for error in raised:
        if not isinstance(error, expected):
            raise error
    own = [one for one in raised if isinstance(one, SessionLost)]
    own.sort(key=lambda one: not isinstance(one, SessionMoves))  # that one holds an open connection
    return own[0] if own else SessionLost(str(raised[0]) or type(raised[0]).__name__)


async def _close(channel: Channel) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await channel.close()
