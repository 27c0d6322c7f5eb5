# SPDX-License-Identifier: GPL-3.0-or-later
"""One file of the journal: its header and its sealed records; never which files there are.

    file    = magic 8 | stamp 24 | number 8 | stamp of the file before 24 | how many bytes of that one count 8
            | tag of the last record that counts in it 16 | tag over all these 16
    record  = length 4 | crc32 of (length, number) 4 | sealed (first index, entries)

A record says "from this index on the log is this", so appending and truncating are one thing.  One record is written
and synced as a whole, and the next one only after that; each is sealed with the tag of the one before it, across
files.  Hence: only the last record of the last file can be torn, by a crash, and then nobody was told of it.  Anything
else that does not open is damage, and is refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from covey.model.errors import BadState
from covey.store.raft.seal import STAMP_SIZE, TAG_SIZE, DataKeys, Sealer

#: Command, index, term: the order in which pysyncobj keeps them.
Entry = tuple[bytes, int, int]

#: The stamp of no file: what a file names as the one before it if the log begins anew with it.
NO_STAMP = bytes(STAMP_SIZE)

_MAGIC = b"CVYJRN\x00\x02"
_HEAD = struct.Struct(f"<8s{STAMP_SIZE}sQ{STAMP_SIZE}sQ{TAG_SIZE}s")
_FRAME = struct.Struct("<II")
_NUMBERED = struct.Struct("<IQ")
HEADER_SIZE = _HEAD.size + TAG_SIZE
_SECTOR = 512

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[Entry]]).decode

REJOIN = (
    "nothing was deleted; restore the file, or have this manager begin anew while others lead: move the directory away "
    "and start the agent (one that starts locked: remove it from the cluster and join it anew)"
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself, and of the one before it."""

    number: int
    stamp: bytes
    previous: bytes = NO_STAMP
    previous_length: int = 0
    previous_tag: bytes = bytes(TAG_SIZE)

    @property
    def begins_anew(self) -> bool:
        """Nothing before this file counts."""
        return self.previous == NO_STAMP

    def encode(self, keys: DataKeys) -> bytes:
        """As bytes, with a tag over them."""
        head = _HEAD.pack(_MAGIC, self.stamp, self.number, self.previous, self.previous_length, self.previous_tag)
        sealer = keys.sealer("journal", self.stamp)
        assert sealer is not None  # noqa: S101 - whoever made the stamp has its key
        return head + sealer.seal(0, b"", head)


def read_header(path: Path, keys: DataKeys) -> Header:
    """The header of the file, made by us and whole; BadState if it is not."""
    with path.open("rb") as file:
        data = file.read(HEADER_SIZE)
    if not data.startswith(_MAGIC):
        raise BadState(f"{path} is not a journal of this release of Covey, or its first bytes are damaged; {REJOIN}")
    if len(data) < HEADER_SIZE:
        raise BadState(f"{path}: its first {HEADER_SIZE} bytes are truncated; {REJOIN}")
    _, stamp, number, previous, length, tag = _HEAD.unpack_from(data)
    sealer = keys.sealer("journal", stamp)
    if sealer is None or sealer.open(0, data[_HEAD.size :], data[: _HEAD.size]) is None:
        raise BadState(
            f"{path}: its first {HEADER_SIZE} bytes are damaged, or no key in {path.with_name('dek')} is its own; "
            f"{REJOIN}"
        )
    return Header(number, stamp, previous, length, tag)


class Records:
    """Seals or opens the records of one file, in their order."""

    def __init__(self, header: Header, keys: DataKeys) -> None:
        self._sealer: Sealer | None = keys.sealer("journal", header.stamp)
        self.number, self.tag = 1, header.encode(keys)[-TAG_SIZE:]

    def seal(self, first: int, entries: Sequence[Entry]) -> bytes:
        """The next record, framed."""
        sealed = self._of().seal(self.number, _encode((first, entries)), self.tag)
        frame = _FRAME.pack(len(sealed), zlib.crc32(_NUMBERED.pack(len(sealed), self.number)))
        self._next(sealed)
        return frame + sealed

    def open(self, sealed: bytes) -> bytes | None:
        """The content of the next record; None, and still at the same record, if it does not open."""
        plain = self._of().open(self.number, sealed, self.tag)
        if plain is not None:
            self._next(sealed)
        return plain

    def _next(self, sealed: bytes) -> None:
        self.number, self.tag = self.number + 1, sealed[-TAG_SIZE:]

    def _of(self) -> Sealer:
        assert self._sealer is not None  # noqa: S101 - a header is only read, or made, with its key
        return self._sealer


class Reader:
    """Reads the records of one file into a log."""

    def __init__(self, path: Path, header: Header, keys: DataKeys, limit: int | None) -> None:
        """``limit``: how many bytes count, None if this is the last file and its end may be torn."""
        self._path, self._last = path, limit is None
        self._data = path.read_bytes()[:limit]
        if limit is not None and len(self._data) < limit:
            raise BadState(f"{path} is truncated: {limit} bytes were safe, {len(self._data)} are left; {REJOIN}")
        self.records = Records(header, keys)
        self.length = HEADER_SIZE
        self.torn = False
        #: The lowest index that a record of this file begins with.
        self.lowest: int | None = None

    def replay(self, entries: list[Entry]) -> None:
        """Make ``entries`` what they are after this file."""
        while self.length < len(self._data) and not self.torn:
            size = self._record_size()
            plain = None if size is None else self._open(size)
            if size is None or plain is None:
                self._tear()
                return
            self._take(entries, plain)
            self.length += size

    def _record_size(self) -> int | None:
        """The size of the next record with its frame, None if a crash tore it; BadState on damage."""
        data, position = self._data, self.length
        if len(data) - position < _FRAME.size:
            return None
        length, crc = _FRAME.unpack_from(data, position)
        if crc != zlib.crc32(_NUMBERED.pack(length, self.records.number)):
            if not _has_hole(data, position):
                raise self._damaged()
            return None
        return None if position + _FRAME.size + length > len(data) else _FRAME.size + length

    def _open(self, size: int) -> bytes | None:
        """The content of the next record, None if a crash tore it; BadState on damage."""
        data, position = self._data, self.length
        plain = self.records.open(data[position + _FRAME.size : position + size])
        if plain is None and (position + size < len(data) or not _has_hole(data, position)):
            raise self._damaged()
        return plain

    def _take(self, entries: list[Entry], plain: bytes) -> None:
        try:
            first, added = _decode(plain)
        except msgspec.MsgspecError as error:
            raise BadState(
                f"{self._path}: record at {self.length} is of a newer release; upgrade this agent"
            ) from error
        if entries:
            del entries[max(0, first - entries[0][1]) :]
        if entries and entries[-1][1] + 1 != first:
            raise self._damaged()
        entries.extend(added)
        self.lowest = first if self.lowest is None else min(self.lowest, first)

    def _tear(self) -> None:
        if not self._last:
            raise self._damaged()
        self.torn = True

    def _damaged(self) -> BadState:
        return BadState(f"{self._path}: damaged at byte {self.length}, by the disk or by somebody's hand; {REJOIN}")


def _has_hole(data: bytes, start: int) -> bool:
    """Whether a disk sector after ``start`` was never written; what is sealed there is hardly ever that empty.

    However little of the record was in that sector: else a crash would be taken for damage.
    """
    while start < len(data):
        end = min((start // _SECTOR + 1) * _SECTOR, len(data))
        if not any(data[start:end]):
            return True
        start = end
    return False
