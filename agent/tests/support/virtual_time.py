# SPDX-License-Identifier: GPL-3.0-or-later
"""An event loop whose time passes only when nothing else can happen, and a clock that shows it."""

from __future__ import annotations

import asyncio
import selectors
from itertools import count

from covey.model.ids import to_id

#: What the clock shows when the loop begins.
BEGIN = 1_800_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits take no real time; to wait for what can never come is an error instead of a hang."""

    def __init__(self) -> None:
        super().__init__(_Selector(self))
        self.passed = 0.0

    def time(self) -> float:
        return getattr(self, "passed", 0.0)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None):
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        self._loop.passed += max(timeout, 0.0)
        return ready


class VirtualClock:
    """The loop's time as unix seconds; ids and secrets are counted."""

    def __init__(self, begin: float = BEGIN) -> None:
        self._begin, self._ids = begin, count(1000)

    def now(self) -> float:
        return self._begin + asyncio.get_running_loop().time()

    def new_id(self) -> str:
        return to_id(next(self._ids))

    def random(self) -> float:
        return 0.5

    def secret(self, size: int) -> bytes:
        return next(self._ids).to_bytes(size)
