# SPDX-License-Identifier: GPL-3.0-or-later
"""The state at one log index, on disk: sealed frames of the state machine's chunks; never what a chunk means.

    file  = magic 8 | stamp 24 | frames
    frame = length 4, its highest bit set on the last one | sealed list of chunks

The first frame holds the ``Mark``.  A file is written beside the old one, synced, and then put in its place; and only
if it is newer, so the state never goes back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from covey.model.codec import UNREADABLE
from covey.model.errors import BadState
from covey.store.raft.files import Files
from covey.store.raft.seal import KEY_ID_SIZE, STAMP_SIZE, DataKeys, Entropy, Sealer
from covey.store.raft.segment import REJOIN, Entry
from covey.store.raft.wire import MAX_FRAME

_MAGIC = b"CVYSNP\x00\x02"
_LENGTH = struct.Struct("<I")
_LAST = 1 << 31
_FRAME_BYTES = 256 << 10
#: So much is written at most before it is synced: a large file that is synced at once holds up the journal's syncs.
_UNSYNCED_BYTES = 4 << 20
_VERSION = 1


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where in the log the state was taken, and who were the voters then.

    ``previous`` is the entry before ``entry``: the log starts with both, because Raft compares with the one before.
    """

    entry: Entry
    previous: Entry
    members: dict[str, str]
    version: int = _VERSION

    @property
    def index(self) -> int:
        """The last log index that the state contains."""
        return self.entry[1]

    @property
    def term(self) -> int:
        """The term of that entry."""
        return self.entry[2]


_chunks = msgspec.msgpack.Decoder(list[bytes]).decode


def pack(mark: Mark, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The plain frames of a snapshot."""
    yield msgspec.msgpack.encode([msgspec.msgpack.encode(mark)])
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= _FRAME_BYTES:
            yield msgspec.msgpack.encode(batch)
            batch, size = [], 0
    yield msgspec.msgpack.encode(batch)


def unpack(frames: Iterator[bytes], source: str) -> tuple[Mark, Iterator[bytes]]:
    """The mark and the chunks of plain frames; BadState if a newer release wrote them."""
    try:
        mark = msgspec.msgpack.decode(_chunks(next(frames))[0], type=Mark)
    except (StopIteration, IndexError, *UNREADABLE) as error:
        raise BadState(f"{source} does not begin as a snapshot of this release does; upgrade this agent") from error
    if mark.version > _VERSION:
        raise BadState(f"{source} was written by a newer release; upgrade this agent")
    return mark, (chunk for frame in frames for chunk in _chunks_of(frame, source))


def _chunks_of(frame: bytes, source: str) -> list[bytes]:
    try:
        return _chunks(frame)
    except UNREADABLE as error:
        raise BadState(f"{source} holds what is no part of a snapshot: {error}") from error


class Writer:
    """Seals plain frames into a file of its own."""

    def __init__(self, path: Path, keys: DataKeys, files: Files, entropy: Entropy) -> None:
        self.path, self._files = path, files
        self._number = self._unsynced = 0
        self._held: bytes | None = None
        # The file is there before its key is chosen: so ``in_use`` knows of every key that a file will need.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        stamp = keys.stamp(entropy)
        self._sealer = keys.sealer("snapshot", stamp)
        try:
            files.write(self._fd, _MAGIC + stamp)
        except OSError:
            self.discard()
            raise

    def add(self, frame: bytes) -> None:
        """Take one more frame; it is written once it is known not to be the last."""
        if self._held is not None:
            self._put(self._held, last=False)
        self._held = frame

    def finish(self) -> None:
        """Write the last frame and make the file durable under its own name."""
        self._put(self._held or b"", last=True)
        self._files.sync(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def discard(self) -> None:
        """Let go of it and give back its room."""
        self.abandon()
        self.path.unlink(missing_ok=True)

    def _put(self, frame: bytes, *, last: bool) -> None:
        assert self._sealer is not None  # noqa: S101 - the stamp is of a key that is there
        sealed = self._sealer.seal(self._number, frame, b"last" if last else b"more")
        self._number += 1
        self._files.write(self._fd, _LENGTH.pack(len(sealed) | (_LAST if last else 0)) + sealed)
        self._unsynced += len(sealed)
        if self._unsynced > _UNSYNCED_BYTES:
            self._files.sync(self._fd)
            self._unsynced = 0


def read(path: Path, keys: DataKeys) -> Iterator[bytes]:
    """The plain frames of a snapshot file; BadState where it is truncated or damaged."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + STAMP_SIZE)
        if len(head) < len(_MAGIC) + STAMP_SIZE or not head.startswith(_MAGIC):
            raise _damaged(path, 0)
        sealer = keys.sealer("snapshot", head[len(_MAGIC) :])
        if sealer is None:
            raise _damaged(path, 0)
        number, last = 0, False
        while not last:
            frame, last = _read_frame(file, sealer, number)
            if frame is None:
                raise _damaged(path, number)
            yield frame
            number += 1
        if file.read(1):
            raise _damaged(path, number)


def _read_frame(file: IO[bytes], sealer: Sealer, number: int) -> tuple[bytes | None, bool]:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None, False
    (length,) = _LENGTH.unpack(head)
    last = bool(length & _LAST)
    size = length & ~_LAST
    sealed = file.read(size) if size <= MAX_FRAME else b""  # what does not fit into a message was never a frame
    if len(sealed) != size:
        return None, last
    return sealer.open(number, sealed, b"last" if last else b"more"), last


def _damaged(path: Path, frame: int) -> BadState:
    return BadState(f"{path}: truncated or damaged at frame {frame}; {REJOIN}")


class Snapshots:
    """The snapshot of a state directory: at most one, and only ever replaced by a newer one."""

    def __init__(self, directory: Path, keys: DataKeys, files: Files, entropy: Entropy) -> None:
        self.path = directory / "snapshot"
        self._keys, self._files, self._entropy = keys, files, entropy
        self.mark: Mark | None = None
        self.size = 0

    def load(self) -> Iterator[bytes] | None:
        """Read the mark and return the state's chunks, or None if there is no snapshot yet."""
        if not self.path.exists():
            return None
        mark, chunks = unpack(read(self.path, self._keys), str(self.path))
        self.mark, self.size = mark, self.path.stat().st_size
        return chunks

    def write(self, mark: Mark, chunks: Iterable[bytes]) -> Path:
        """Write a snapshot beside the current one and return its path; may run in another thread."""
        writer = self.writer("local")
        try:
            for frame in pack(mark, chunks):
                writer.add(frame)
            writer.finish()
        except OSError:
            writer.discard()
            raise
        finally:
            writer.abandon()
        return writer.path

    def writer(self, origin: str) -> Writer:
        """A writer of a file beside the current one; one at a time for each ``origin``."""
        return Writer(self.path.with_name(f"snapshot.{origin}"), self._keys, self._files, self._entropy)

    def install(self, fresh: Path, mark: Mark) -> bool:
        """Put ``fresh`` in place if it is newer than what is there; False, and gone, if it is not."""
        if self.mark is not None and mark.index <= self.mark.index:
            fresh.unlink()
            return False
        self._files.replace(fresh, self.path)
        self.mark, self.size = mark, self.path.stat().st_size
        return True

    def in_use(self) -> set[bytes] | None:
        """The ids of the data keys that these files need; None if a file has just been begun."""
        found = set()
        for path in self.path.parent.glob(self.path.name + "*"):
            try:
                with path.open("rb") as file:
                    head = file.read(len(_MAGIC) + KEY_ID_SIZE)
            except FileNotFoundError:  # its writer has just given it up
                continue
            if len(head) < len(_MAGIC) + KEY_ID_SIZE:
                return None
            found.add(head[len(_MAGIC) :])
        return found

    def frames(self, path: Path | None = None) -> Iterator[bytes]:
        """The plain frames of the current snapshot, or of another file of this directory."""
        return read(path or self.path, self._keys)
