# SPDX-License-Identifier: GPL-3.0-or-later
"""When a snapshot is taken and how much of the log stays behind it; written in another thread, installed in ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from covey.store.raft.fulldisk import out_of_room
from covey.store.raft.log import Log
from covey.store.raft.machine import Machine
from covey.store.raft.snapshot import Mark, Snapshots

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """A snapshot after ``entries``, or after so many ``size`` bytes (or four times the last snapshot, if that is more).

    The tail stays for followers that are a little behind; without it each of them needs the whole state.
    """

    entries: int = 10_000
    size: int = 16 << 20
    tail_entries: int = 5_000
    tail_size: int = 16 << 20


Background = Callable[[Callable[[], Path]], "Future[Path]"]


class Compaction:
    """Takes one snapshot at a time."""

    def __init__(
        self, log: Log, snapshots: Snapshots, machine: Machine, background: Background, policy: Policy
    ) -> None:
        self._log, self._snapshots, self._machine, self._background = log, snapshots, machine, background
        self._policy = policy
        self._running: tuple[Mark, Future[Path]] | None = None
        self._postponed = 0
        self.wanted = False

    def step(self, applied: int, members: Mapping[str, str], *, leading: bool) -> None:
        """Start a snapshot of the state after entry ``applied`` if it is time, or finish one that is written."""
        if self._running is not None:
            self._finish(*self._running)
        elif self._due(applied, leading=leading):
            self._begin(applied, members)

    def _due(self, applied: int, *, leading: bool) -> bool:
        """The leader waits a little longer, so that not all members are busy at once."""
        policy, mark = self._policy, self._snapshots.mark
        since = applied - (mark.index if mark else 0)
        if since < 1 or applied <= self._log.first or applied < self._postponed:
            return False
        patience = 1.25 if leading else 1.0
        enough = policy.tail_size + max(policy.size, 4 * self._snapshots.size)
        return self.wanted or since >= policy.entries * patience or self._log.bytes >= enough * patience

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
        path = self._written(mark, written)
        if path is not None and self._snapshots.install(path, mark):
            _log.info("snapshot at entry %d: %d bytes", mark.index, self._snapshots.size)
            self._log.drop_before(min(mark.previous[1], self._tail_start(mark.index)))

    def _written(self, mark: Mark, written: Future[Path]) -> Path | None:
        """The file, None if there was no room for it: then the log grows on, and it is tried again after a while."""
        try:
            return written.result()
        except OSError as error:
            if not out_of_room(error):
                raise
            self._postponed = mark.index + max(1, self._policy.entries // 10)
            _log.warning("no room for a snapshot at entry %d, the journal grows on: %s", mark.index, error)
            return None

    def _tail_start(self, index: int) -> int:
        """The oldest entry before ``index`` worth keeping."""
        size, start = 0, index
        while start > self._log.first and index - start < self._policy.tail_entries:
            size += len(self._log[start - 1 - self._log.first][0])
            if size > self._policy.tail_size:
                break
            start -= 1
        return start
