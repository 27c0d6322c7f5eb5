# SPDX-License-Identifier: GPL-3.0-or-later
"""Raft's log and vote as pysyncobj wants them, kept in memory and made durable by ``sync``; no rule of Raft.

``add`` and its kin only change the memory.  Who must not speak of an entry before it is safe calls ``sync`` first:
one write for however many came together.
"""

from __future__ import annotations

from pathlib import Path
from typing import overload

import msgspec
from pysyncobj.journal import Journal

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import Files, write_atomically
from covey.store.raft.journal import Entry, JournalFile
from covey.store.raft.seal import Entropy, open_whole, seal_whole

_VERSION = 1


class Hard(msgspec.Struct, frozen=True, array_like=True):
    """What must be on the disk before it is said: the term and the vote; beside it, how far the disk once was."""

    version: int
    node_id: str
    term: int
    vote: str | None
    commit: int
    journal_id: bytes
    journal_length: int


class HardState:
    """The file ``hard``: one small sealed record, replaced as a whole."""

    def __init__(self, path: Path, key: Secret, files: Files, entropy: Entropy) -> None:
        self.path, self._key, self._files, self._entropy = path, key, files, entropy

    def load(self) -> Hard:
        """The last one saved; BadState if it cannot be read."""
        plain = open_whole(self._key, "hard", self.path.read_bytes())
        if plain is None:
            raise BadState(
                f"{self.path} is truncated, damaged or from elsewhere, so this manager cannot know how it voted; "
                "nothing was deleted; restore the file, or remove this manager from the cluster and join it anew"
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
        sealed = seal_whole(self._key, "hard", msgspec.msgpack.encode(hard), self._entropy)
        write_atomically(self._files, self.path, sealed)


class Log(Journal):
    """The entries from some index on, never empty once in use.

    Invariant: after ``sync`` the file holds exactly the entries in memory, or a prefix more of old ones.
    """

    def __init__(self, file: JournalFile, hard: HardState, node_id: str) -> None:
        self._file, self._hard, self._node_id = file, hard, node_id
        self._entries: list[Entry] = []
        self._changed: int | None = None
        self._rewrite = False
        self._term, self._commit, self._saved_commit = 0, 1, 1
        self._vote: str | None = None
        self.bytes = 0

    # -- opening and closing

    def create(self, entries: list[Entry]) -> None:
        """Start a new file; only ever in a directory without state.  May be interrupted and called again."""
        self._save()
        self._entries = list(entries)
        self._count()
        self._rewrite = True
        self.sync()

    def load(self) -> None:
        """Read both files and check one against the other."""
        hard = self._hard.load()
        if hard.version > _VERSION:
            raise BadState(f"{self._hard.path} was written by a newer release; upgrade this agent")
        if hard.node_id != self._node_id:
            raise BadState(
                f"{self._hard.path} belongs to node {hard.node_id}, not to this node {self._node_id}; "
                "nothing was deleted; give each node its own directory"
            )
        self._term, self._vote, self._commit = hard.term, hard.vote, hard.commit
        self._saved_commit = hard.commit
        self._entries, torn = self._file.load()
        self._check(hard)
        self._count()
        self._commit = self.getRaftCommitIndex()
        self._rewrite = torn
        self.sync()

    def _check(self, hard: Hard) -> None:
        path = self._hard.path.with_name("journal")
        if hard.journal_id not in (self._file.file_id, self._file.replaced_id):
            raise BadState(
                f"{path} is not the journal this directory last used; nothing was deleted; put that one back"
            )
        if hard.journal_id == self._file.file_id and self._file.length < hard.journal_length:
            raise BadState(
                f"{path} is truncated: {hard.journal_length} bytes were safe, {self._file.length} are left; nothing "
                "was deleted; restore the file, or remove this manager from the cluster and join it anew"
            )

    def close(self) -> None:
        """Make everything durable and let go of the files."""
        self.sync()
        if self._saved_commit != self._commit:
            self._save()
        self._file.close()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        self._file.close()

    # -- durability

    @property
    def dirty(self) -> bool:
        """Whether ``sync`` has anything to do."""
        return self._rewrite or self._changed is not None

    def sync(self) -> None:
        """Return when the disk holds what the memory does."""
        if self._rewrite:
            self._file.rewrite(self._entries)
            self._rewrite, self._changed = False, None
            self._save()
        elif self._changed is not None:
            self._file.append(self._changed, self._entries[max(0, self._changed - self.first) :])
            self._changed = None

    def _save(self) -> None:
        hard = Hard(
            _VERSION, self._node_id, self._term, self._vote, self._commit, self._file.file_id, self._file.length
        )
        self._hard.save(hard)
        self._saved_commit = self._commit

    # -- asking

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
        """Forget every entry, in memory; the file is replaced at the next ``sync``."""
        self._entries = []
        self.bytes = 0
        self._rewrite = True

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Truncate at a position (not an index), in memory."""
        if entryFrom < len(self._entries):
            self._mark(self._entries[entryFrom][1])
            del self._entries[entryFrom:]
            self._count()

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Forget the entries before a position, in memory; the file is replaced at the next ``sync``."""
        if entryTo > 0:
            del self._entries[:entryTo]
            self._rewrite = True
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
        self.sync()
        self._term, self._vote = term, votedForNodeId
        self._save()

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

    def _mark(self, index: int) -> None:
        self._changed = index if self._changed is None else min(self._changed, index)

    def _count(self) -> None:
        self.bytes = sum(len(entry[0]) for entry in self._entries)
