# SPDX-License-Identifier: GPL-3.0-or-later
"""The log on disk: a chain of numbered files, of which only the last one grows; never a rule of Raft.

A new file is begun when the last one is full, when its end was torn, and when the log begins anew.  It is put in place
whole, with its first record, by one rename, and says how much of the file before it counts.  Files go from the oldest
on, once a snapshot covers all that they alone hold.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from covey.model.errors import BadState
from covey.store.raft.files import Files
from covey.store.raft.seal import KEY_ID_SIZE, DataKeys, Entropy
from covey.store.raft.segment import HEADER_SIZE, NO_STAMP, REJOIN, Entry, Header, Reader, Records, read_header

_log = logging.getLogger(__name__)

#: A file that is this long takes no more records.
SEGMENT_BYTES = 32 << 20
_RECORD_BYTES = 4 << 20
_NAME = re.compile(r"journal-(\d{10})")


@dataclass(slots=True)
class _Segment:
    """A file of the chain.  ``lowest`` is the lowest index that a record of it begins with."""

    path: Path
    header: Header
    length: int = HEADER_SIZE
    lowest: int | None = None

    def grow(self, size: int, first: int) -> None:
        self.length += size
        self.lowest = first if self.lowest is None else min(self.lowest, first)


def segments_in(directory: Path) -> list[Path]:
    """The files of the journal in ``directory``, oldest first."""
    return sorted(path for path in directory.glob("journal-*") if _NAME.fullmatch(path.name))


class Journal:
    """The chain, open for appending."""

    def __init__(
        self,
        directory: Path,
        keys: DataKeys,
        files: Files,
        entropy: Entropy,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._directory, self._keys, self._files, self._entropy = directory, keys, files, entropy
        self._segment_bytes = segment_bytes
        self._chain: list[_Segment] = []
        #: Files that the log does not need any more, and that are still there; they go first.
        self._leftover: list[_Segment] = []
        self._records: Records
        self._fd = -1
        self._closed_off = False

    # -- asking

    @property
    def stamp(self) -> bytes:
        """Of the file that grows; ``NO_STAMP`` if there is none."""
        return self._chain[-1].header.stamp if self._chain else NO_STAMP

    @property
    def length(self) -> int:
        """Of the file that grows."""
        return self._chain[-1].length if self._chain else 0

    def length_of(self, stamp: bytes) -> int | None:
        """How many bytes count of the file with that stamp; None if it is not here, 0 if it is and none count."""
        for segment in self._chain:
            if segment.header.stamp == stamp:
                return segment.length
        return 0 if any(segment.header.stamp == stamp for segment in self._leftover) else None

    @property
    def is_first(self) -> bool:
        """Whether this is the very first file, written when the directory was made."""
        return not self._leftover and [segment.header.number for segment in self._chain] == [1]

    @property
    def in_use(self) -> set[bytes]:
        """The ids of the data keys that these files need."""
        return {segment.header.stamp[:KEY_ID_SIZE] for segment in (*self._leftover, *self._chain)}

    # -- reading

    def load(self) -> list[Entry]:
        """The entries; BadState, and everything as it was, if a file is missing, damaged or from elsewhere."""
        found = [_Segment(path, read_header(path, self._keys)) for path in segments_in(self._directory)]
        if not found:
            raise BadState(f"{self._directory} has no journal; {REJOIN}")
        for before, segment in zip([None, *found], found, strict=False):
            _check_number(before, segment)
        start = max((place for place, segment in enumerate(found) if segment.header.begins_anew), default=0)
        self._leftover, self._chain = found[:start], found[start:]
        entries: list[Entry] = []
        for place, segment in enumerate(self._chain):
            following = self._chain[place + 1].header if place + 1 < len(self._chain) else None
            self._read(entries, segment, following)
        self._fd = os.open(self._chain[-1].path, os.O_WRONLY | os.O_APPEND)
        # What was read may have been written, but not synced, by the process before this one.
        self._files.sync(self._fd)
        return entries

    def _read(self, entries: list[Entry], segment: _Segment, following: Header | None) -> None:
        limit = None if following is None else following.previous_length
        reader = Reader(segment.path, segment.header, self._keys, limit)
        reader.replay(entries)
        segment.length, segment.lowest = reader.length, reader.lowest
        if following is None:
            self._records, self._closed_off = reader.records, reader.torn
        elif (following.previous, following.previous_tag) != (segment.header.stamp, reader.records.tag):
            raise BadState(f"{segment.path} is not the file that the next one continues; {REJOIN}")
        if reader.torn:
            _log.warning(
                "%s: its last record, from byte %d on, was cut short by a crash before anybody was told of it; "
                "it is left out",
                segment.path,
                reader.length,
            )

    # -- writing

    def append(self, first: int, entries: Sequence[Entry]) -> bool:
        """Make "from ``first`` on the log is ``entries``" durable; whether that began a new file."""
        if self._closed_off or self.length >= self._segment_bytes:
            last = self._chain[-1]
            header = Header(last.header.number + 1, self._stamp(), last.header.stamp, last.length, self._records.tag)
            self._begin(header, [(first, entries)])
            return True
        number, tag = self._records.number, self._records.tag
        record = self._records.seal(first, entries)
        self._closed_off = True  # until it is written whole: what comes after half of it goes to another file
        try:
            self._files.write(self._fd, record)
            self._files.sync(self._fd)
        except BaseException:
            self._records.number, self._records.tag = number, tag
            raise
        self._closed_off = False
        self._chain[-1].grow(len(record), first)
        return False

    def restart(self, entries: Sequence[Entry]) -> None:
        """Begin a new file that holds just ``entries``; nothing before it counts."""
        number = self._chain[-1].header.number + 1 if self._chain else 1
        self._begin(Header(number, self._stamp()), [(part[0][1], part) for part in _parts(entries)])
        self._leftover += self._chain[:-1]
        del self._chain[:-1]

    def close_off(self) -> None:
        """Have the next record begin a new file."""
        self._closed_off = True

    def drop_before(self, index: int) -> None:
        """Remove the files that hold nothing from ``index`` on.

        A file is needed as long as those after it do not hold everything from ``index`` on.
        """
        lowest = [segment.lowest for segment in self._chain]
        kept = len(self._chain) - 1
        while kept > 0 and not any(first is not None and first <= index for first in lowest[kept:]):
            kept -= 1
        self._leftover, self._chain = self._leftover + self._chain[:kept], self._chain[kept:]
        while self._leftover:
            self._files.remove(self._leftover[0].path)
            del self._leftover[0]

    def close(self) -> None:
        """Let go of the file; what was not appended is not there."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _stamp(self) -> bytes:
        return self._keys.stamp(self._entropy)

    def _begin(self, header: Header, content: Sequence[tuple[int, Sequence[Entry]]]) -> None:
        """Put a new file in place, durable and whole."""
        segment = _Segment(self._directory / f"journal-{header.number:010}", header)
        records = Records(header, self._keys)
        fresh = segment.path.with_name(segment.path.name + ".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self._files.write(fd, header.encode(self._keys))
            for first, entries in content:
                record = records.seal(first, entries)
                self._files.write(fd, record)
                segment.grow(len(record), first)
            self._files.sync(fd)
            self._files.replace(fresh, segment.path)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                fresh.unlink(missing_ok=True)  # it may be all the room there is
            raise
        self.close()
        self._fd, self._records, self._closed_off = fd, records, False
        self._chain.append(segment)


def _check_number(before: _Segment | None, segment: _Segment) -> None:
    """BadState if the file is under another name than its own, or does not follow ``before``."""
    if segment.path.name != f"journal-{segment.header.number:010}":
        raise BadState(f"{segment.path} is file {segment.header.number} of its journal, under another name; {REJOIN}")
    if before is not None and segment.header.number != before.header.number + 1:
        missing = segment.path.with_name(f"journal-{before.header.number + 1:010}")
        raise BadState(f"{missing} is missing, although files before and after it are there; {REJOIN}")


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    """``entries`` in pieces of a few megabytes."""
    parts: list[list[Entry]] = []
    size = _RECORD_BYTES
    for entry in entries:
        if size >= _RECORD_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += len(entry[0])
    return parts
