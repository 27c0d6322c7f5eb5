# SPDX-License-Identifier: GPL-3.0-or-later
"""The data keys of a state directory on disk: the file ``dek``, wrapped by the key in ``kek`` or by a cluster's
unlock key, which is on no manager's disk.

    dek = magic 8 | lock version 8 | sealed (format, data keys, guard)

``dek`` is replaced as a whole, and says itself what opens it: version 0 is ``kek``, any other one is the unlock key of
that version.  So wrapping it anew is one step, whatever else a crash leaves undone.  A new data key is in ``dek``
before any file is sealed with it, and leaves it only when no file needs it any more.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from covey.model.errors import BadState, CoveyError, Locked, WrongUnlockKey
from covey.model.secret import Secret
from covey.store.raft.files import Files, RealFiles, write_atomically
from covey.store.raft.seal import KEY_ID_SIZE, KEY_SIZE, DataKeys, Entropy, key_id
from covey.store.raft.segment import REJOIN

_MAGIC = b"CVYDEK\x00\x02"
_HEAD = struct.Struct("<8sQ")
_FORMAT = 1


class _Contents(msgspec.Struct, frozen=True, array_like=True):
    format: int
    keys: list[bytes]
    guard: bytes

    def __repr__(self) -> str:
        return "_Contents(***)"


class KeyRing:
    """The files ``dek`` and ``kek``.  Who holds all other files of the directory, but not these, reads nothing."""

    def __init__(self, directory: Path, files: Files, entropy: Entropy) -> None:
        self._wrapped, self._wrapping = directory / "dek", directory / "kek"
        self._files, self._entropy = files, entropy
        self._lock = _Lock(0, Secret(b""))
        self.keys = DataKeys(())
        #: Seals what is not in the directory and must not be readable without these keys; another one for each time
        #: that the directory is locked.
        self.guard = Secret(b"")

    def exists(self) -> bool:
        """Whether there are data keys."""
        return self._wrapped.exists()

    @property
    def lock_version(self) -> int:
        """Of the unlock key; 0 if the directory is not locked."""
        return self._lock.version

    def create(self) -> None:
        """Make both files; only ever in a directory without state."""
        self._save(_Lock(0, self._fresh_wrapping()), [self._random()], self._random())

    def create_alike(self, other: KeyRing) -> None:
        """As ``create``, with the lock and the guard of another ring."""
        self._save(other._lock, [self._random()], other.guard)

    def open(self, unlock_key: Secret | None) -> None:
        """Read the data keys.

        BadState if a file is missing, damaged or not of this pair; Locked if an unlock key is needed; WrongUnlockKey.
        """
        data = self._read(self._wrapped)
        version = _lock_version(self._wrapped, data)
        if version and unlock_key is None:
            raise Locked
        self._lock = _Lock(version, unlock_key if version and unlock_key else self._read_wrapping())
        if not self._unwrap(data):
            raise self._does_not_open(data)
        if version and self._wrapping.exists():
            self._files.remove(self._wrapping)

    def rotate(self) -> None:
        """A new data key for whatever is written from now on; what was written before stays readable."""
        self._save(self._lock, [*self.keys.all(), self._random()], self.guard)

    def retire(self, in_use: Iterable[bytes]) -> None:
        """Forget the data keys that are not ``in_use``, by their ids; never the newest."""
        kept = self.keys.among(in_use)
        if len(kept) < len(self.keys.all()):
            self._save(self._lock, kept, self.guard)

    def lock(self, version: int, unlock_key: Secret) -> bool:
        """From now on only this key opens the directory; whether the data key is a new one.

        It is when the directory was not locked before: who copied ``kek`` then reads nothing of what is written now.
        """
        if self._lock.version:
            self._save(_Lock(version, unlock_key), self.keys.all(), self.guard)
            return False
        self._save(_Lock(version, unlock_key), [*self.keys.all(), self._random()], self._random())
        self._files.remove(self._wrapping)
        return True

    def unlock(self) -> None:
        """From now on the directory opens without an unlock key."""
        if self._lock.version:
            self._save(_Lock(0, self._fresh_wrapping()), self.keys.all(), self.guard)

    def _read(self, path: Path) -> bytes:
        if not path.exists():
            raise BadState(f"{path} is missing, so nothing in {path.parent} can be read; {REJOIN}")
        return path.read_bytes()

    def _read_wrapping(self) -> Secret:
        key = Secret(self._read(self._wrapping))
        if len(key.reveal()) != KEY_SIZE:
            raise BadState(f"{self._wrapping} is truncated or not Covey's; {REJOIN}")
        return key

    def _unwrap(self, data: bytes) -> bool:
        plain = DataKeys([self._lock.key]).open_whole("dek", data[_HEAD.size :], data[: _HEAD.size])
        if plain is None:
            return False
        contents = msgspec.msgpack.decode(plain, type=_Contents)
        if contents.format > _FORMAT:
            raise BadState(f"{self._wrapped} was written by a newer release; upgrade this agent")
        self.keys, self.guard = DataKeys(map(Secret, contents.keys)), Secret(contents.guard)
        return True

    def _does_not_open(self, data: bytes) -> CoveyError:
        if self._lock.version and data[_HEAD.size :][:KEY_ID_SIZE] != key_id(self._lock.key):
            return WrongUnlockKey(self._lock.version)
        other = "the unlock key" if self._lock.version else self._wrapping
        return BadState(
            f"{self._wrapped} does not open with {other}: one of them is damaged or from elsewhere; {REJOIN}"
        )

    def _save(self, lock: _Lock, keys: list[Secret], guard: Secret) -> None:
        """Make these the ring, on the disk and then here."""
        head = _HEAD.pack(_MAGIC, lock.version)
        contents = _Contents(_FORMAT, [key.reveal() for key in keys], guard.reveal())
        sealed = DataKeys([lock.key]).seal_whole("dek", msgspec.msgpack.encode(contents), self._entropy, head)
        write_atomically(self._files, self._wrapped, head + sealed)
        self._lock, self.guard = lock, guard
        self.keys.replace(keys)

    def _fresh_wrapping(self) -> Secret:
        key = self._random()
        write_atomically(self._files, self._wrapping, key.reveal())
        return key

    def _random(self) -> Secret:
        return Secret(self._entropy(KEY_SIZE))


@dataclass(frozen=True, slots=True)
class _Lock:
    """What ``dek`` is wrapped with."""

    version: int
    key: Secret


def lock_version(directory: Path) -> int:
    """Of the unlock key that the directory needs; 0 if it needs none, or is not there."""
    path = directory / "dek"
    return _lock_version(path, path.read_bytes()) if path.exists() else 0


def open_guard(directory: Path, unlock_key: Secret) -> Secret:
    """The guard of a locked directory that nobody uses; WrongUnlockKey, BadState."""
    ring = KeyRing(directory, RealFiles(), os.urandom)
    ring.open(unlock_key)
    return ring.guard


def begin_alike(directory: Path, pattern: Path, unlock_key: Secret, files: Files) -> None:
    """Begin the keys of a new ``directory``: data keys of its own, the lock and the guard of the locked ``pattern``."""
    old, new = KeyRing(pattern, files, os.urandom), KeyRing(directory, files, os.urandom)
    old.open(unlock_key)
    new.create_alike(old)


def _lock_version(path: Path, data: bytes) -> int:
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise BadState(f"{path} is truncated, damaged or not of this release; {REJOIN}")
    version: int = _HEAD.unpack_from(data)[1]
    if version and _names_wrapping(path, data):
        raise BadState(
            f"{path} is damaged: it says that unlock key {version} opens it, but it was sealed with "
            f"{path.with_name('kek')}; {REJOIN}"
        )
    return version


def _names_wrapping(path: Path, data: bytes) -> bool:
    """Whether ``kek`` sealed it: beside a locked one may lie, by a crash while locking, the ``kek`` of before."""
    wrapping = path.with_name("kek")
    return wrapping.exists() and data[_HEAD.size :][:KEY_ID_SIZE] == key_id(Secret(wrapping.read_bytes()))
