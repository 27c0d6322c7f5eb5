# SPDX-License-Identifier: GPL-3.0-or-later
"""When a snapshot is taken and how much of the log stays behind it; written in another thread, installed in ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from covey.store.raft.log import Log
from covey.store.raft.machine import Machine
from covey.store.raft.snapshot import Mark, Snapshots

_log = logging.getLogger(__name__)

#: A snapshot after so many entries, or so many bytes beyond the tail and the last snapshot's size fourfold.
ENTRIES = 10_000
BYTES = 16 << 20
#: What stays for followers that are a little behind; without it each of them needs the whole state.
TAIL_ENTRIES = 5_000
TAIL_BYTES = 16 << 20

Background = Callable[[Callable[[], Path]], "Future[Path]"]


class Compaction:
    """Takes one snapshot at a time."""

    def __init__(self, log: Log, snapshots: Snapshots, machine: Machine, background: Background) -> None:
        self._log, self._snapshots, self._machine, self._background = log, snapshots, machine, background
        self._running: tuple[Mark, Future[Path]] | None = None
        self.wanted = False

    def step(self, applied: int, members: Mapping[str, str], *, leading: bool) -> None:
        """Start a snapshot of the state after entry ``applied`` if it is time, or finish one that is written."""
        if self._running is not None:
            self._finish(*self._running)
        elif self._due(applied, leading=leading):
            self._begin(applied, members)

    def _due(self, applied: int, *, leading: bool) -> bool:
        """The leader waits a little longer, so that not all members are busy at once."""
        mark = self._snapshots.mark
        since = applied - (mark.index if mark else 0)
        if since < 1 or applied <= self._log.first:
            return False
        patience = 1.25 if leading else 1.0
        enough = TAIL_BYTES + max(BYTES, 4 * self._snapshots.size)
        return self.wanted or since >= ENTRIES * patience or self._log.bytes >= enough * patience

    def _begin(self, applied: int, members: Mapping[str, str]) -> None:
        self.wanted = False
        previous, entry = self._log[applied - 1 - self._log.first : applied + 1 - self._log.first]
        mark = Mark(entry, previous, dict(members))
        state = self._machine.state()
        chunks = self._machine.dump
        self._running = mark, self._background(lambda: self._snapshots.write(mark, chunks(state)))

    def _finish(self, mark: Mark, written: Future[Path]) -> None:
        if not written.done():
            return
        self._running = None
        if self._snapshots.install(written.result(), mark):
            _log.info("snapshot at entry %d: %d bytes", mark.index, self._snapshots.size)
            self._log.drop_before(min(mark.previous[1], self._tail_start(mark.index)))

    def _tail_start(self, index: int) -> int:
        """The oldest entry before ``index`` worth keeping."""
        size, start = 0, index
        while start > self._log.first and index - start < TAIL_ENTRIES:
            size += len(self._log[start - 1 - self._log.first][0])
            if size > TAIL_BYTES:
                break
            start -= 1
        return start
