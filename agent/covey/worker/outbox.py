# SPDX-License-Identifier: GPL-3.0-or-later
"""Statuses on their way to the managers: the newest of each task, gathered for a moment, kept until acknowledged.

Never in it: sockets; what a status means beyond whether it is urgent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from covey.model.objects import TaskStatus
from covey.model.tasks import is_terminal

#: The least time between two reports, urgent ones excepted.
FLUSH = 0.1
#: A report without an acknowledgement for so long is sent again.
REPEAT = 5.0


class Outbox:
    """``take`` gives what is to be reported; ``acknowledge`` settles it; ``restart`` makes everything news again."""

    def __init__(self) -> None:
        self._news: dict[str, TaskStatus] = {}
        self._sent: dict[int, tuple[float, dict[str, TaskStatus]]] = {}  # with the time to repeat it
        self._sequence = 0
        self._last = 0.0
        self._some, self._urgent = asyncio.Event(), asyncio.Event()

    def put(self, task_id: str, status: TaskStatus) -> None:
        """Report it soon; at once if the task is over, as then something must take its place."""
        self._news[task_id] = status
        self._some.set()
        if is_terminal(status.state):
            self._urgent.set()

    def drop(self, task_id: str) -> None:
        """Nobody wants to know any more."""
        self._news.pop(task_id, None)

    def restart(self, known: Mapping[str, TaskStatus]) -> None:
        """A new session begins: whatever was sent in the old one may be lost."""
        self._sent.clear()
        self._news.clear()
        for task_id, status in known.items():
            self.put(task_id, status)

    async def take(self) -> tuple[int, dict[str, TaskStatus]]:
        """The next report and its number; waits until there is one."""
        await self._await_news()
        loop = asyncio.get_running_loop()
        pause = self._last + FLUSH - loop.time()
        if pause > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._urgent.wait()
        taken, self._news = self._news, {}
        self._some.clear()
        self._urgent.clear()
        self._last = loop.time()
        self._sequence += 1
        self._sent[self._sequence] = (self._last + REPEAT, taken)
        return self._sequence, taken

    async def _await_news(self) -> None:
        """Return once there is something to say; reports that nobody answered become news again."""
        loop = asyncio.get_running_loop()
        while not self._news:
            self._some.clear()
            due = min((at for at, _ in self._sent.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._some.wait()
            self._recall(loop.time())

    def _recall(self, now: float) -> None:
        for sequence in [number for number, (due, _) in self._sent.items() if due <= now]:
            _, statuses = self._sent.pop(sequence)
            for task_id, status in statuses.items():
                if not self._newer(task_id, sequence):
                    self.put(task_id, status)

    def _newer(self, task_id: str, than: int) -> bool:
        later = (statuses for number, (_, statuses) in self._sent.items() if number > than)
        return task_id in self._news or any(task_id in statuses for statuses in later)

    def acknowledge(self, sequence: int) -> None:
        """The report of that number is in the managers' state."""
        self._sent.pop(sequence, None)
