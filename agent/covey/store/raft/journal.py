# SPDX-License-Identifier: GPL-3.0-or-later
"""The log on disk: one append-only file of sealed records; never a rule of Raft.

    file    = magic 8 | file id 16 | id of the file this one replaced 16 | crc32 of those
    record  = length 4 | crc32 of (length, number) 4 | sealed (first index, entries)

A record says "from this index on the log is this", so appending and truncating are one thing.  One record is written
and synced as a whole, and the next one only after that; each is sealed with the tag of the one before it.  Hence:
only the last record can be torn, by a crash, and then nobody was told of it.  Anything else that does not open is
damage, and is refused.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import Files
from covey.store.raft.seal import FILE_ID_SIZE, TAG_SIZE, Entropy, Sealer

#: Command, index, term: the order in which pysyncobj keeps them.
Entry = tuple[bytes, int, int]

_MAGIC = b"CVYJRN\x00\x01"
_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<II")
_NUMBERED = struct.Struct("<IQ")
HEADER_SIZE = len(_MAGIC) + 2 * FILE_ID_SIZE + _CRC.size
_SECTOR = 512
_REWRITE_BYTES = 4 << 20

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[Entry]]).decode

_REJOIN = "nothing was deleted; restore the file, or remove this manager from the cluster and join it anew"


class JournalFile:
    """The file, open for appending."""

    def __init__(self, path: Path, key: Secret, files: Files, entropy: Entropy) -> None:
        self._path, self._key, self._files, self._entropy = path, key, files, entropy
        self._fd = -1
        self.file_id = self.replaced_id = bytes(FILE_ID_SIZE)
        self.length = 0
        self._number = 0
        self._chain = b""

    def load(self) -> tuple[list[Entry], bool]:
        """The entries, and whether the last record was torn: then ``rewrite`` before anything is appended."""
        data = self._path.read_bytes()
        self._read_header(data)
        entries: list[Entry] = []
        position, torn = HEADER_SIZE, False
        while position < len(data) and not torn:
            size = self._record_size(data, position)
            torn = size is None or not self._replay(entries, data, position, size)
            position += 0 if torn or size is None else size
        self.length = position
        if not torn:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        return entries, torn

    def append(self, first: int, entries: Sequence[Entry]) -> None:
        """Make "from ``first`` on the log is ``entries``" durable."""
        record = self._seal(first, entries)
        self._files.write(self._fd, record)
        self._files.sync(self._fd)
        self.length += len(record)

    def rewrite(self, entries: Sequence[Entry]) -> None:
        """Put a new file that holds just ``entries`` in the place of the old one."""
        self.replaced_id, self.file_id = self.file_id, self._entropy(FILE_ID_SIZE)
        header = self._start()
        fresh = self._path.with_name(self._path.name + ".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self._files.write(fd, header)
            self.length = len(header)
            for part in _parts(entries):
                record = self._seal(part[0][1], part)
                self._files.write(fd, record)
                self.length += len(record)
            self._files.sync(fd)
            self._files.replace(fresh, self._path)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd = fd

    def close(self) -> None:
        """Let go of the file; what was not appended is not there."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _start(self) -> bytes:
        head = _MAGIC + self.file_id + self.replaced_id
        header = head + _CRC.pack(zlib.crc32(head))
        self._sealer = Sealer(self._key, "journal", self.file_id)
        self._number, self._chain = 0, header
        return header

    def _read_header(self, data: bytes) -> None:
        head = data[: HEADER_SIZE - _CRC.size]
        if not data.startswith(_MAGIC):
            raise BadState(f"{self._path} is not a journal of Covey, or its first bytes are damaged; {_REJOIN}")
        if len(data) < HEADER_SIZE or data[len(head) : HEADER_SIZE] != _CRC.pack(zlib.crc32(head)):
            raise BadState(f"{self._path}: its first {HEADER_SIZE} bytes are truncated or damaged; {_REJOIN}")
        self.file_id = head[len(_MAGIC) : len(_MAGIC) + FILE_ID_SIZE]
        self.replaced_id = head[len(_MAGIC) + FILE_ID_SIZE :]
        self._start()

    def _seal(self, first: int, entries: Sequence[Entry]) -> bytes:
        sealed = self._sealer.seal(self._number, _encode((first, entries)), self._chain)
        frame = _FRAME.pack(len(sealed), zlib.crc32(_NUMBERED.pack(len(sealed), self._number)))
        self._number, self._chain = self._number + 1, sealed[-TAG_SIZE:]
        return frame + sealed

    def _record_size(self, data: bytes, position: int) -> int | None:
        """The size of the record at ``position`` with its frame, None if a crash tore it; BadState on damage."""
        if len(data) - position < _FRAME.size:
            return None
        length, crc = _FRAME.unpack_from(data, position)
        if crc != zlib.crc32(_NUMBERED.pack(length, self._number)):
            if not _has_hole(data, position):
                raise self._damaged(position)
            return None
        return None if position + _FRAME.size + length > len(data) else _FRAME.size + length

    def _replay(self, entries: list[Entry], data: bytes, position: int, size: int) -> bool:
        """Take the record over; False if a crash tore it."""
        sealed = data[position + _FRAME.size : position + size]
        plain = self._sealer.open(self._number, sealed, self._chain)
        if plain is None:
            if position + size < len(data) or not _has_hole(data, position):
                raise self._damaged(position)
            return False
        self._number, self._chain = self._number + 1, sealed[-TAG_SIZE:]
        try:
            first, added = _decode(plain)
        except msgspec.MsgspecError as error:
            raise BadState(f"{self._path}: record at {position} is of a newer release; upgrade this agent") from error
        if entries:
            del entries[max(0, first - entries[0][1]) :]
        if entries and entries[-1][1] + 1 != first:
            raise self._damaged(position)
        entries.extend(added)
        return True

    def _damaged(self, position: int) -> BadState:
        return BadState(f"{self._path}: damaged at byte {position}, by the disk or by somebody's hand; {_REJOIN}")


def _has_hole(data: bytes, start: int) -> bool:
    """Whether a disk sector after ``start`` was never written; sealed bytes are never that empty."""
    while start < len(data):
        end = min((start // _SECTOR + 1) * _SECTOR, len(data))
        if end - start >= _FRAME.size and not any(data[start:end]):
            return True
        start = end
    return False


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    """``entries`` in pieces of a few megabytes."""
    parts: list[list[Entry]] = []
    size = _REWRITE_BYTES
    for entry in entries:
        if size >= _REWRITE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += len(entry[0])
    return parts
