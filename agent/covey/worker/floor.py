# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tasks of a node share: the engine and its moods, how much may be asked of it at once, where news goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from covey.executor.base import Executor
from covey.model.clock import Clock
from covey.model.objects import Task
from covey.worker.outbox import Outbox

#: Containers made or started at once, and images pulled at once.
STARTS, PULLS = 4, 3


class Pulls:
    """One pull an image, whoever waits for it; a waiter that leaves does not end it for the others."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._free = asyncio.Semaphore(PULLS)
        self._running: dict[str, asyncio.Task[None]] = {}

    async def get(self, task: Task) -> None:
        """Return once the task's image is there; raises what the pull raised."""
        image = task.spec.container_spec.image
        pull = self._running.get(image)
        if pull is None:
            pull = asyncio.create_task(self._pull(task), name=f"pull {image}")
            self._running[image] = pull
            pull.add_done_callback(lambda done: self._ended(image, done))
        await asyncio.shield(pull)

    def _ended(self, image: str, pull: asyncio.Task[None]) -> None:
        del self._running[image]
        if not pull.cancelled():
            pull.exception()  # told to those who wait; without any, it is nobody's

    async def _pull(self, task: Task) -> None:
        async with self._free:
            await self._executor.pull(task)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for pull in self._running.values():
            pull.cancel()


@dataclass
class Floor:
    """``heard`` and ``engine_error`` are the runner's to write; the keepers read them.

    ``engine_lost`` and ``changed`` tell the runner that the engine is silent, and that the book is out of date;
    ``seen`` that a container may be another;
    ``furnish`` has a task's files in place and gives it as the engine shall have it, ``clear`` lets go of those files,
    ``forget`` ends a keeper.
    """

    executor: Executor
    clock: Clock
    outbox: Outbox
    engine_lost: Callable[[str], None]
    changed: Callable[[], None]
    forget: Callable[[str], None]
    seen: Callable[[], None]
    furnish: Callable[[Task], Awaitable[Task]]
    clear: Callable[[str], Awaitable[None]]
    heard: bool = False
    engine_error: str = ""
    starts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS))
    pulls: Pulls = field(init=False)

    def __post_init__(self) -> None:
        self.pulls = Pulls(self.executor)
