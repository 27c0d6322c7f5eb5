# SPDX-License-Identifier: GPL-3.0-or-later
"""Raft's log and vote as pysyncobj wants them, kept in memory and made durable by ``sync``; no rule of Raft.

``add`` and its kin only change the memory.  Who must not speak of an entry before it is safe calls ``sync`` first:
one write for however many came together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import overload

import msgspec
from pysyncobj.journal import Journal as LogOfPysyncobj

from covey.model.errors import BadState
from covey.store.raft.files import Files, write_atomically
from covey.store.raft.fulldisk import room_permitting
from covey.store.raft.journal import Journal
from covey.store.raft.membership import node_of
from covey.store.raft.seal import KEY_ID_SIZE, DataKeys, Entropy
from covey.store.raft.segment import NO_STAMP, REJOIN, Entry

_VERSION = 2


class Hard(msgspec.Struct, frozen=True, array_like=True):
    """What must be on the disk before it is said: the term and the vote; beside it, how far the disk once was.

    ``journal`` is the stamp of the file that grew then, ``journal_length`` how long it was.
    """

    version: int
    node_id: str
    term: int
    vote: str | None
    commit: int
    journal: bytes
    journal_length: int


class HardState:
    """The file ``hard``: one small sealed record, replaced as a whole."""

    def __init__(self, path: Path, keys: DataKeys, files: Files, entropy: Entropy) -> None:
        self.path, self._keys, self._files, self._entropy = path, keys, files, entropy

    def load(self) -> Hard:
        """The last one saved; BadState if it cannot be read."""
        plain = self._keys.open_whole("hard", self.path.read_bytes())
        if plain is None:
            raise BadState(
                f"{self.path} is truncated, damaged or from elsewhere, so this manager cannot know how it voted; "
                f"{REJOIN}"
            )
        return msgspec.msgpack.decode(plain, type=Hard)

    def untouched(self) -> bool:
        """Whether no term was ever entered and no journal written: a start that was interrupted, or none at all."""
        if not self.path.exists():
            return True
        hard = self.load()
        return hard.term == 0 and hard.journal_length == 0

    def save(self, hard: Hard) -> None:
        """Replace it, durably."""
        sealed = self._keys.seal_whole("hard", msgspec.msgpack.encode(hard), self._entropy)
        write_atomically(self._files, self.path, sealed)

    @property
    def in_use(self) -> bytes:
        """The id of the data key that the file needs."""
        return self.path.read_bytes()[:KEY_ID_SIZE]


class Log(LogOfPysyncobj):
    """The entries from some index on, never empty once in use.

    Invariant: after ``sync`` the files hold exactly the entries in memory, or a prefix more of old ones.
    """

    def __init__(self, journal: Journal, hard: HardState, raft_id: str, each_second: Callable[[], None]) -> None:
        """``each_second`` is called about as often, at a moment when nothing is half done."""
        self._journal, self._hard = journal, hard
        #: Whose log it is; of the node alone until ``load`` has read the rest.
        self.raft_id = raft_id
        self._each_second = each_second
        self._entries: list[Entry] = []
        self._changed: int | None = None
        self._restart = self._trim = self._unsaved = False
        self._term, self._commit, self._saved_commit = 0, 1, 1
        self._vote: str | None = None
        self.bytes = 0

    # -- opening and closing

    def create(self, entries: list[Entry]) -> None:
        """Begin; only ever in a directory without state.  May be interrupted and called again."""
        self._save()
        self._entries = list(entries)
        self._count()
        self._restart = True
        self.sync()

    def load(self) -> None:
        """Read the vote and the journal, and check one against the other."""
        hard = self._hard.load()
        if hard.version > _VERSION:
            raise BadState(f"{self._hard.path} was written by a newer release; upgrade this agent")
        if node_of(hard.node_id) != node_of(self.raft_id):
            raise BadState(
                f"{self._hard.path} belongs to node {node_of(hard.node_id)}, not to this node {node_of(self.raft_id)}; "
                "nothing was deleted; give each node its own directory"
            )
        self.raft_id = hard.node_id
        self._term, self._vote, self._commit = hard.term, hard.vote, hard.commit
        self._saved_commit = hard.commit
        self._entries = self._journal.load()
        self._check(hard)
        self._count()
        self._commit = self.getRaftCommitIndex()
        self._unsaved, self._trim = hard.journal != self._journal.stamp, True
        with room_permitting():
            self.sync()

    def _check(self, hard: Hard) -> None:
        directory = self._hard.path.parent
        length = self._journal.length_of(hard.journal)
        if length is None and not (hard.journal == NO_STAMP and self._journal.is_first):
            raise BadState(
                f"{directory}: the journal file that this directory wrote to last is not there: it is missing, or the "
                f"journal is an older one or from elsewhere; {REJOIN}"
            )
        if length and length < hard.journal_length:
            raise BadState(
                f"{directory}: the journal is truncated: in its file {hard.journal.hex()[-8:]} {hard.journal_length} "
                f"bytes were safe, {length} are left; {REJOIN}"
            )

    def close(self) -> None:
        """Make everything durable that there is room for, and let go of the files."""
        with room_permitting():
            self.sync()
            if self._saved_commit != self._commit:
                self._save()
        self._journal.close()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        self._journal.close()

    # -- durability

    @property
    def dirty(self) -> bool:
        """Whether ``sync`` has anything to write."""
        return self._restart or self._unsaved or self._changed is not None

    def sync(self) -> None:
        """Return when the disk holds what the memory does.

        If a write fails it may be called again, once there is room: whatever it has done counts, and it goes on there.
        """
        if self._restart:
            self._journal.restart(self._entries)
            self._restart, self._changed, self._unsaved, self._trim = False, None, True, True
        elif self._changed is not None:
            tail = self._entries[max(0, self._changed - self.first) :]
            self._unsaved = self._journal.append(self._changed, tail) or self._unsaved
            self._changed = None
        if self._unsaved:
            self._save()  # it has to know the file that grows now, before the one it knows may go
        if self._trim:
            self._journal.drop_before(self.first)
            self._trim = False

    def reseal(self) -> None:
        """Have everything that is written from now on sealed with the newest data key, the vote at once."""
        self._journal.close_off()
        self._unsaved = True
        self.sync()

    def _save(self) -> None:
        hard = Hard(
            _VERSION, self.raft_id, self._term, self._vote, self._commit, self._journal.stamp, self._journal.length
        )
        self._hard.save(hard)
        self._saved_commit, self._unsaved = self._commit, False

    # -- asking

    @property
    def directory(self) -> Path:
        """Where it is kept."""
        return self._hard.path.parent

    @property
    def first(self) -> int:
        """The index of the oldest entry kept."""
        return self._entries[0][1] if self._entries else 1

    @property
    def last(self) -> int:
        """The index of the newest entry."""
        return self._entries[-1][1] if self._entries else 0

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``, None if it is not here."""
        if not self.first <= index <= self.last:
            return None
        return self._entries[index - self.first][2]

    def entries_from(self, index: int, size: int) -> list[Entry]:
        """The entries from ``index`` on, up to about ``size`` bytes but at least one."""
        found: list[Entry] = []
        for position in range(index - self.first, len(self._entries)):
            entry = self._entries[position]
            if found and size < len(entry[0]):
                break
            size -= len(entry[0])
            found.append(entry)
        return found

    # -- what pysyncobj calls

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append in memory."""
        if self._entries and idx != self.last + 1:
            raise AssertionError(f"entry {idx} does not follow {self.last}")
        self._entries.append((bytes(command), idx, term))
        self.bytes += len(command)
        self._mark(idx)

    def clear(self) -> None:
        """Forget every entry, in memory; the log begins anew at the next ``sync``."""
        self._entries = []
        self.bytes = 0
        self._restart = True

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Truncate at a position (not an index), in memory."""
        if entryFrom < len(self._entries):
            self._mark(self._entries[entryFrom][1])
            del self._entries[entryFrom:]
            self._count()

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Forget the entries before a position, in memory; files with nothing else go at the next ``sync``."""
        if entryTo <= 0:
            return
        del self._entries[:entryTo]
        self._trim = True
        if not self._entries or (self._changed is not None and self._changed < self.first):
            self._restart = True  # what is not on the disk yet would not follow what is
        self._count()

    def drop_before(self, index: int) -> None:
        """Forget the entries before ``index``, as ``deleteEntriesTo``."""
        self.deleteEntriesTo(index - self.first)

    def restart(self, previous: Entry, entry: Entry) -> None:
        """Forget everything but the two entries at which a snapshot was taken."""
        self.clear()
        for command, index, term in (previous, entry):
            self.add(command, index, term)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """Nothing: whoever opened the log closes it."""

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Durable on return, and the entries the vote was judged by with it."""
        self._term, self._vote, self._unsaved = term, votedForNodeId, True
        self.sync()

    def getCurrentTerm(self) -> int:
        """The newest term this node has been part of."""
        return self._term

    def getVotedForNodeId(self) -> str | None:
        """Whom it voted for in that term."""
        return self._vote

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Remember; written now and then only, since the next leader tells it again."""
        self._commit = max(self._commit, raftCommitIndex)

    def getRaftCommitIndex(self) -> int:
        """What is known to be committed, never beyond what is here."""
        return max(1, min(self._commit, self.last))

    def onOneSecondTimer(self) -> None:
        """Write the commit index and how long the journal is, if they moved."""
        if self._saved_commit != self._commit and not self.dirty:
            self._save()
        self._each_second()

    def _mark(self, index: int) -> None:
        self._changed = index if self._changed is None else min(self._changed, index)

    def _count(self) -> None:
        self.bytes = sum(len(entry[0]) for entry in self._entries)
