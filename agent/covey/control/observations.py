# SPDX-License-Identifier: GPL-3.0-or-later
"""What workers say of themselves and their tasks, on its way into the store: gathered, so that a storm of reports costs
few log entries, while a lone one is written at once.

Never in it: desired state; an observation cannot clash with anything, so it is never planned again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from covey.model import codec
from covey.model.changes import Batch, ObserveNode, ObserveTask
from covey.model.clock import Clock
from covey.model.errors import Conflict, CoveyError, InvalidArgument, NotLeader, Unavailable
from covey.store.base import Store

Observation = ObserveNode | ObserveTask
Sized = tuple[Observation, int]
Entry = tuple[list[Sized], "asyncio.Future[None]"]

WRITE_TIMEOUT = 5.0
#: The least time between the beginnings of two writes.
INTERVAL = 0.05
#: Observations that are written together, the bytes of them in one log entry, and of one of them.
LIMIT, SIZE, LONGEST = 2000, 1 << 20, 256 << 10
UNCONFIRMED_PAUSE = 0.1

log = logging.getLogger(__name__)


class Observations:
    """A queue into the store.  ``run`` empties it; one write is under way at a time, so order is kept."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._waiting: list[Entry] = []
        self._arrived = asyncio.Event()

    def submit(self, *observations: Observation) -> asyncio.Future[None]:
        """Done once they are in the state; fails with NotLeader when they will not be written here.

        InvalidArgument, and none of them is written, where a worker says more than any has to say.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sized = [(each, len(codec.encode(each))) for each in observations]
        longest = max((size for _, size in sized), default=0)
        if longest > LONGEST:
            future.set_exception(InvalidArgument(f"an observation of {longest} bytes; at most {LONGEST} are taken"))
            future.exception()
            return future
        self._waiting.append((sized, future))
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._arrived.wait()
                began = loop.time()
                await self._write(self._take())
                await asyncio.sleep(INTERVAL - (loop.time() - began))
        finally:
            _fail(self._waiting, NotLeader(None))
            self._waiting = []

    def _take(self) -> list[Entry]:
        """The oldest entries, up to the limit."""
        count = number = 0
        for sized, _ in self._waiting:
            number += len(sized)
            if count and number > LIMIT:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._arrived.clear()
        return taken

    async def _write(self, entries: list[Entry]) -> None:
        try:
            for changes in _parts([each for sized, _ in entries for each in sized]):
                await self._propose(changes)
        except CoveyError as refusal:
            told = log.info if isinstance(refusal, (NotLeader, Conflict)) else log.error
            told("observations of workers were not written: %s", refusal)
            _fail(entries, refusal)
        except asyncio.CancelledError:
            _fail(entries, NotLeader(None))
            raise
        for _, future in entries:
            if not future.done():
                future.set_result(None)

    async def _propose(self, changes: tuple[Observation, ...]) -> None:
        leadership = self._store.leadership()
        if not leadership.leading:
            raise NotLeader(leadership.leader)
        # Without an id: twice is as once, and the state remembers only so many.
        batch = Batch("", self._clock.now(), changes, fence=leadership.term)
        while True:
            try:
                await self._store.propose(batch, WRITE_TIMEOUT)
            except Unavailable as error:
                log.warning("observations of workers are not confirmed yet, they are tried again: %s", error)
                await asyncio.sleep(UNCONFIRMED_PAUSE)
                continue
            return


def _parts(sized: list[Sized]) -> Iterator[tuple[Observation, ...]]:
    """As few log entries as hold them."""
    part: list[Observation] = []
    total = 0
    for observation, size in sized:
        if part and total + size > SIZE:
            yield tuple(part)
            part, total = [], 0
        part.append(observation)
        total += size
    yield tuple(part)


def _fail(entries: list[Entry], reason: Exception) -> None:
    for _, future in entries:
        if not future.done():
            future.set_exception(reason)
            future.exception()  # its submitter may be gone; the reason was logged
