# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers as a worker meets them: each address leads, follows, keeps silent or is not there, as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from covey.model.objects import NodeDescription, Task, TaskStatus
from covey.model.session import (
    Assignments,
    FromDispatcher,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Hello,
    ManagerAddress,
    Provision,
    Provisions,
    Redirect,
    Restarting,
    RestartNoted,
    StatusAck,
    StatusReport,
    Welcome,
)

PERIOD = 2.0
ADDRESSES = ("a:2377", "b:2377", "c:2377")
MANAGERS = tuple(ManagerAddress(node_id=one[0], address=one) for one in ADDRESSES)


@dataclass
class Managers:
    """The cluster's managers and the Connector to them.  One leads, the others redirect to it."""

    leader: str | None = "a:2377"
    absent: set[str] = field(default_factory=set)  # the connection is refused
    unreachable: set[str] = field(default_factory=set)  # the connection hangs
    mute: set[str] = field(default_factory=set)  # connections stand, nothing is answered any more
    epochs: dict[str, int] = field(default_factory=dict)  # by address; 0 unless said
    acknowledging: bool = True  # status reports
    answer: FromDispatcher | None = None  # instead of Welcome
    tasks: dict[str, Task] = field(default_factory=dict)
    values: dict[str, Provision] = field(default_factory=dict)  # secrets and configs that the node may hold
    connects: list[tuple[float, str]] = field(default_factory=list)
    hellos: list[NodeDescription] = field(default_factory=list)
    reports: list[tuple[float, StatusReport]] = field(default_factory=list)
    heartbeats: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    described: list[NodeDescription] = field(default_factory=list)
    session: ManagerChannel | None = None
    sessions: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, address: str) -> ManagerChannel:
        self.connects.append((now(), address))
        if address in self.absent:
            raise ConnectionRefusedError(f"connection to {address} refused")
        if address in self.unreachable:
            await asyncio.Event().wait()
        return ManagerChannel(self, address)

    def put(self, *tasks: Task) -> None:
        """Assign these, or what became of them."""
        for task in tasks:
            self.tasks[task.id] = task
        if self.session is not None:
            self.session.assignments(tasks=tasks)

    def take_away(self, *task_ids: str) -> None:
        """They leave the assignments."""
        for task_id in task_ids:
            del self.tasks[task_id]
        if self.session is not None:
            self.session.assignments(removed=task_ids)

    def lose(self) -> None:
        """The leader's process dies."""
        if self.session is not None:
            self.absent.add(self.session.address)
            self.session.end()

    def seen(self, task_id: str) -> list[TaskStatus]:
        """Every status of that task that was reported, oldest first."""
        return [report.statuses[task_id] for _, report in self.reports if task_id in report.statuses]

    async def until(self, holds: Callable[[], bool], limit: float = 600.0) -> float:
        """Wait until it holds, looked at after each message from the worker; returns the time."""
        async with asyncio.timeout(limit):
            while not holds():
                self.moved.clear()
                await self.moved.wait()
        return now()

    async def until_state(self, task_id: str, state: int, limit: float = 600.0) -> TaskStatus:
        """The report that says so."""
        await self.until(lambda: any(one.state == state for one in self.seen(task_id)), limit)
        return next(one for one in self.seen(task_id) if one.state == state)


def now() -> float:
    return asyncio.get_running_loop().time()


class ManagerChannel:
    """The worker's end of a connection; the manager answers at once."""

    def __init__(self, managers: Managers, address: str) -> None:
        self.address = address
        self._managers, self._sequence = managers, 0
        self._inbox: asyncio.Queue[FromDispatcher | None] = asyncio.Queue()
        self._ended = False
        self._given: set[str] = set()

    async def send(self, message: FromWorker) -> None:
        if self._ended:
            raise ConnectionResetError("the connection has ended")
        if self.address not in self._managers.mute:
            self._hear(message)
        self._managers.moved.set()

    def _hear(self, message: FromWorker) -> None:
        managers = self._managers
        if isinstance(message, Hello):
            managers.hellos.append(message.description)
            self._welcome()
        elif isinstance(message, Heartbeat):
            managers.heartbeats.append(now())
            self.say(HeartbeatAck())
        elif isinstance(message, StatusReport):
            managers.reports.append((now(), message))
            if managers.acknowledging:
                self.say(StatusAck(sequence=message.sequence))
        elif isinstance(message, Restarting):
            managers.restarts.append(message.within)
            self.say(RestartNoted())
        else:
            managers.described.append(message.description)

    def _welcome(self) -> None:
        managers = self._managers
        if managers.answer is not None:
            self.say(managers.answer)
        elif managers.leader != self.address:
            leader = next((one for one in MANAGERS if one.address == managers.leader), None)
            self.say(Redirect(leader=leader, managers=MANAGERS))
        else:
            managers.session = self
            managers.sessions += 1
            session, epoch = f"session{managers.sessions}", managers.epochs.get(self.address, 0)
            self.say(Welcome(session_id=session, heartbeat_period=PERIOD, managers=MANAGERS, epoch=epoch))
            self.assignments(complete=True, tasks=tuple(managers.tasks.values()))

    def assignments(
        self, *, complete: bool = False, tasks: tuple[Task, ...] = (), removed: tuple[str, ...] = (), skip: int = 0
    ) -> None:
        self._sequence += 1 + skip
        values = self._managers.values
        fresh = tuple(value for id_, value in values.items() if id_ not in self._given)
        self._given = set(values)
        if fresh:
            self.say(Provisions(items=fresh))
        self.say(
            Assignments(
                sequence=self._sequence, complete=complete, tasks=tasks, removed=removed, provisions=tuple(values)
            )
        )

    def say(self, message: FromDispatcher) -> None:
        if self.address not in self._managers.mute:
            self._inbox.put_nowait(message)

    def end(self) -> None:
        """The connection breaks."""
        self._ended = True
        self._inbox.put_nowait(None)

    async def receive(self) -> FromDispatcher:
        message = await self._inbox.get()
        if message is None:
            raise ConnectionResetError("the connection has ended")
        return message

    async def close(self) -> None:
        self._ended = True
        if self._managers.session is self:
            self._managers.session = None
