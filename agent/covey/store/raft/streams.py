# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots on the wire: the leader's way out, frame by frame, and the follower's way in, into a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from covey.store.raft.snapshot import Mark, Snapshots, Writer, unpack
from covey.store.raft.wire import Chunk


@dataclass(slots=True)
class Piece:
    """One frame to send."""

    mark: Mark
    number: int
    data: bytes
    last: bool


class Outgoing:
    """The snapshot on its way to one follower, as it was when the way began."""

    def __init__(self, snapshots: Snapshots) -> None:
        if snapshots.mark is None:
            raise AssertionError("the log was shortened, so there must be a snapshot")
        self._mark = snapshots.mark
        self._frames: Iterator[bytes] = snapshots.frames()
        self._next: bytes | None = next(self._frames, None)
        self._number = 0

    def piece(self) -> Piece | None:
        """The next frame, None after the last."""
        if self._next is None:
            return None
        data, self._next = self._next, next(self._frames, None)
        piece = Piece(self._mark, self._number, data, self._next is None)
        self._number += 1
        return piece


class Incoming:
    """The snapshot that a leader is sending us; one at a time, and any gap starts it again."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._writer: Writer | None = None
        self._origin: tuple[str, int, int, int] | None = None
        self._expected = 0

    def take(self, node_id: str, chunk: Chunk) -> Path | None:
        """Store a chunk; the file's path once it is whole."""
        origin = (node_id, chunk.term, chunk.index, chunk.index_term)
        if chunk.number == 0:
            self.drop()
            self._writer, self._origin, self._expected = self._snapshots.writer("received"), origin, 0
        if self._writer is None or origin != self._origin or chunk.number != self._expected:
            self.drop()
            return None
        try:
            self._writer.add(chunk.data)
            if chunk.last:
                self._writer.finish()
        except OSError:
            self.drop()
            raise
        self._expected += 1
        if not chunk.last:
            return None
        writer, self._writer = self._writer, None
        return writer.path

    def mark_of(self, path: Path) -> tuple[Mark, Iterator[bytes]]:
        """What a received file holds."""
        return unpack(self._snapshots.frames(path), str(path))

    def drop(self) -> None:
        """Give up what has arrived so far."""
        if self._writer is not None:
            self._writer.discard()
        self._writer = None
