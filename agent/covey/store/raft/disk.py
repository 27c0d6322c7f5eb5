# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager's Raft directory as a whole: what must be there together, and what is refused.  Deletes nothing.

lock       held by the one process that uses the directory
kek dek    the keys              hard      term, vote, commit index
journal-N  the log               snapshot  the state at some index
peers      addresses last heard, a hint and no secret
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from covey.model.codec import UNREADABLE
from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import Files, RealFiles, lock_directory, write_atomically
from covey.store.raft.fulldisk import room_permitting
from covey.store.raft.journal import SEGMENT_BYTES, Journal, segments_in
from covey.store.raft.keyring import KeyRing
from covey.store.raft.log import HardState, Log
from covey.store.raft.seal import KEY_ID_SIZE, Entropy
from covey.store.raft.segment import REJOIN, Entry
from covey.store.raft.snapshot import Snapshots


class Peers(msgspec.Struct, frozen=True):
    """The file ``peers``."""

    addresses: dict[str, str]
    version: int = 1


class Disk:
    """An opened directory; ``close`` lets go of it."""

    def __init__(
        self,
        directory: Path,
        raft_id: str,
        files: Files | None = None,
        entropy: Entropy = os.urandom,
        segment_bytes: int = SEGMENT_BYTES,
        unlock_key: Secret | None = None,
    ) -> None:
        """``raft_id``: whose directory it shall be; to open one that is there, the node id will do."""
        self.directory, self._raft_id, self._unlock_key = directory, raft_id, unlock_key
        self._files, self._entropy, self._segment_bytes = files or RealFiles(), entropy, segment_bytes
        self._keys = KeyRing(directory, self._files, entropy)
        self._lock = -1
        self.log: Log
        self.snapshots: Snapshots
        self.chunks: Iterator[bytes] | None = None

    def open(self, initial: list[Entry] | None) -> bool:
        """Open what is there, or begin with the ``initial`` log; whether it began.

        Locked and WrongUnlockKey before anything else is looked at.  BadState if the files do not belong together, or
        if there are none and ``initial`` is None.
        """
        self._lock = lock_directory(self.directory)
        try:
            return self._open(initial)
        except BaseException:
            self.release()
            raise

    def _open(self, initial: list[Entry] | None) -> bool:
        self._refuse_former()
        hard, snapshot = self.directory / "hard", self.directory / "snapshot"
        segments = segments_in(self.directory)
        present = [path.name for path in (*segments[:1], hard, snapshot) if path.exists()]
        if initial is None and not present:
            raise BadState(f"{self.directory} holds no Raft state; this node has to form or join a cluster first")
        # What is seen here may be of a process that ended before the names were on the disk.
        self._files.sync_names(self.directory)
        if present or self._keys.exists():
            self._keys.open(self._unlock_key)
        else:
            self._keys.create()
        keys = self._keys.keys
        self._hard = HardState(hard, keys, self._files, self._entropy)
        self._journal = Journal(self.directory, keys, self._files, self._entropy, self._segment_bytes)
        self.log = Log(self._journal, self._hard, self._raft_id, self._retire_keys)
        self.snapshots = Snapshots(self.directory, keys, self._files, self._entropy)
        if not segments and not snapshot.exists() and self._hard.untouched():
            self.log.create(initial or [])
            return True
        for path, there in ((hard, hard.exists()), (self.directory / "journal-*", bool(segments))):
            if not there:
                raise BadState(f"{path} is missing although {', '.join(present)} is there; {REJOIN}")
        self.log.load()
        self.chunks = self.snapshots.load()
        self._align()
        if self._journal.stamp[:KEY_ID_SIZE] != keys.ids()[-1]:
            with room_permitting():
                self.log.reseal()
        return False

    def _refuse_former(self) -> None:
        path = self.directory / "journal"
        if path.exists():
            raise BadState(
                f"{path} is of an earlier format, the whole journal in one file, which this release does not read; "
                f"{REJOIN}"
            )

    def rotate_key(self) -> None:
        """A new data key for every file from now on; the old one goes when compaction has taken the last of its files.

        May be interrupted anywhere: the next ``open`` goes on with it.
        """
        self._keys.rotate()
        self.log.reseal()

    @property
    def lock_version(self) -> int:
        """Of the unlock key that opens the directory; 0 if it opens without one."""
        return self._keys.lock_version

    @property
    def guard(self) -> Secret:
        """Seals what lies outside the directory and must not be readable while it is locked."""
        return self._keys.guard

    def relock(self, version: int, unlock_key: Secret) -> bool:
        """Have the directory open with that key alone, with none if ``version`` is 0; whether the data key is new."""
        if version == 0:
            self._keys.unlock()
            return False
        fresh = self._keys.lock(version, unlock_key)
        if fresh:
            self.log.reseal()
        return fresh

    def _retire_keys(self) -> None:
        if len(self._keys.keys.ids()) == 1:
            return
        snapshots = self.snapshots.in_use()
        if snapshots is not None:
            self._keys.retire({self._hard.in_use, *self._journal.in_use, *snapshots})

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
                f"{start}: they are not of one state; {REJOIN}"
            )
        if mark is not None and self.log.term_at(mark.index) != mark.term:
            self.log.restart(mark.previous, mark.entry)
            with room_permitting():
                self.log.sync()
        if mark is not None:
            self.log.setRaftCommitIndex(mark.index)

    def peers(self) -> dict[str, str]:
        """The addresses last saved; an unreadable file is as good as none, since the log has them too."""
        try:
            return msgspec.json.decode((self.directory / "peers").read_bytes(), type=Peers).addresses
        except (FileNotFoundError, *UNREADABLE):
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
