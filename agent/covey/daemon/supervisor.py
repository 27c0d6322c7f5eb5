# SPDX-License-Identifier: GPL-3.0-or-later
"""Background tasks with a name, whose unexpected end is an error and ends the agent, so that systemd starts it anew."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class Supervisor:
    """Owns background tasks; ``failed`` returns the first error of any of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def start(self, name: str, work: Coroutine[Any, Any, Any], *, endless: bool = True) -> asyncio.Task[Any]:
        """Run ``work`` until ``stop``; if it is ``endless``, coming to an end is an error, too."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, endless))
        return task

    def _ended(self, task: asyncio.Task[Any], endless: bool) -> None:
        if task not in self._tasks:
            return
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None and endless:
            error = RuntimeError(f"{task.get_name()} ended, which it never should")
        if error is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Have ``failed`` return this error, unless an earlier one is there already."""
        if not self._failure.done():
            self._failure.set_result(error)

    async def failed(self) -> BaseException:
        """The first failure, once there is one."""
        return await asyncio.shield(self._failure)

    async def end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel these of its tasks and wait until they have ended."""
        ending = set(tasks)
        self._tasks -= ending
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    async def stop(self) -> None:
        """Cancel everything and wait until it has ended."""
        await self.end(self._tasks)
