# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocking calls off the event loop, in daemon threads: bounded, and none of them can delay the agent's exit.

Not a ThreadPoolExecutor: that one joins its threads when Python ends, so a stop with a long grace or a slow pull would
hold up a restart of the agent, though the engine finishes such a call without us.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most ``limit`` calls at once; a cancelled call keeps its place until it really ends."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(limit)

    async def call(self, function: Callable[[], T]) -> T:
        """The result of ``function()``, run in a thread of its own."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._free.release()
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # T may be None itself

        def run() -> None:
            try:
                result, error = function(), None
            except BaseException as caught:  # noqa: BLE001 - handed over to the caller, whatever it is
                result, error = None, caught
            hand_over(loop, settle, result, error)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return await answer


def hand_over(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> bool:
    """Run ``function`` on the loop; False if the loop has ended, which nobody is left to care about."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return False
    return True
