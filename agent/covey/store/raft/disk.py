# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager's Raft directory as a whole: what must be there together, and what is refused.  Deletes nothing.

lock      held by the one process that uses the directory
kek dek   the keys              hard      term, vote, commit index
journal   the log               snapshot  the state at some index
peers     addresses last heard, a hint and no secret
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from covey.model.errors import BadState
from covey.store.raft.files import Files, RealFiles, lock_directory, write_atomically
from covey.store.raft.journal import Entry, JournalFile
from covey.store.raft.log import HardState, Log
from covey.store.raft.seal import Entropy, KeyRing
from covey.store.raft.snapshot import Snapshots


class Peers(msgspec.Struct, frozen=True):
    """The file ``peers``."""

    addresses: dict[str, str]
    version: int = 1


class Disk:
    """An opened directory; ``close`` lets go of it."""

    def __init__(
        self, directory: Path, node_id: str, files: Files | None = None, entropy: Entropy = os.urandom
    ) -> None:
        self.directory, self._node_id = directory, node_id
        self._files, self._entropy = files or RealFiles(), entropy
        self._keys = KeyRing(directory, self._files, entropy)
        self._lock = -1
        self.log: Log
        self.snapshots: Snapshots
        self.chunks: Iterator[bytes] | None = None

    def open(self, initial: list[Entry] | None) -> bool:
        """Open what is there, or begin with the ``initial`` log; whether it began.

        BadState if the files do not belong together, or if there are none and ``initial`` is None.
        """
        self._lock = lock_directory(self.directory)
        try:
            return self._open(initial)
        except BaseException:
            self.release()
            raise

    def _open(self, initial: list[Entry] | None) -> bool:
        journal, hard, snapshot = (self.directory / name for name in ("journal", "hard", "snapshot"))
        present = [path.name for path in (journal, hard, snapshot) if path.exists()]
        if initial is None and not present:
            raise BadState(f"{self.directory} holds no Raft state; this node has to form or join a cluster first")
        key = self._keys.open() if present or self._keys.exists() else self._keys.create()
        state = HardState(hard, key, self._files, self._entropy)
        self.log = Log(JournalFile(journal, key, self._files, self._entropy), state, self._node_id)
        self.snapshots = Snapshots(self.directory, key, self._files, self._entropy)
        if not journal.exists() and not snapshot.exists() and state.untouched():
            self.log.create(initial or [])
            return True
        for path in (hard, journal):
            if not path.exists():
                raise BadState(
                    f"{path} is missing although {', '.join(present)} is there; nothing was deleted; restore it, or "
                    "remove this manager from the cluster and join it anew"
                )
        self.log.load()
        self.chunks = self.snapshots.load()
        self._align()
        return False

    def _align(self) -> None:
        """Make the log continue the snapshot.

        A crash right after a leader's snapshot was put in place leaves the log of before, too short or diverged:
        whatever the snapshot contradicts was never committed.
        """
        mark = self.snapshots.mark
        start = self.log.first
        if start > 1 and (mark is None or mark.index < start):
            raise BadState(
                f"{self.directory / 'snapshot'} ends at entry {mark.index if mark else 0}, but the journal begins at "
                f"{start}: they are not of one state; nothing was deleted; put the right snapshot back, or remove this "
                "manager from the cluster and join it anew"
            )
        if mark is not None and self.log.term_at(mark.index) != mark.term:
            self.log.restart(mark.previous, mark.entry)
            self.log.sync()
        if mark is not None:
            self.log.setRaftCommitIndex(mark.index)

    def peers(self) -> dict[str, str]:
        """The addresses last saved; an unreadable file is as good as none, since the log has them too."""
        try:
            return msgspec.json.decode((self.directory / "peers").read_bytes(), type=Peers).addresses
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def save_peers(self, addresses: Mapping[str, str]) -> None:
        """Remember addresses."""
        data = msgspec.json.encode(Peers(dict(sorted(addresses.items()))))
        write_atomically(self._files, self.directory / "peers", data)

    def close(self) -> None:
        """Make the log durable and let go of the directory."""
        try:
            self.log.close()
        finally:
            self.release()

    def release(self) -> None:
        """Let go of the directory as it is."""
        if hasattr(self, "log"):
            self.log.abandon()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
