# SPDX-License-Identifier: GPL-3.0-or-later
"""The data keys of a state directory on disk: the file ``dek``, wrapped by the key in ``kek`` or by a cluster's
unlock key, which is on no manager's disk.

    dek = magic 8 | lock version 8 | sealed (format, data keys, guard)

``dek`` is replaced as a whole, and says itself what opens it: version 0 is ``kek``, any other one is the unlock key of
that version.  So wrapping it anew is one step, whatever else a crash leaves undone.  A new data key is in ``dek``
before any file is sealed with it, and leaves it only when no file needs it any more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import Files, write_atomically
from covey.store.raft.seal import KEY_SIZE, DataKeys, Entropy

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
        #: Seals what is not in the directory and must not be readable without these keys.
        self.guard = Secret(b"")

    def exists(self) -> bool:
        """Whether there are data keys."""
        return self._wrapped.exists()

    def create(self) -> None:
        """Make both files; only ever in a directory without state."""
        self._lock = _Lock(0, self._fresh_wrapping())
        self.keys, self.guard = DataKeys([self._random()]), self._random()
        self._save()

    def open(self) -> None:
        """Read the data keys; BadState if either file is missing or not of this pair."""
        for path in (self._wrapping, self._wrapped):
            if not path.exists():
                raise BadState(f"{path} is missing, so nothing in {path.parent} can be read; put it back from a backup")
        data, key = self._wrapped.read_bytes(), Secret(self._wrapping.read_bytes())
        if len(data) < _HEAD.size or not data.startswith(_MAGIC) or len(key.reveal()) != KEY_SIZE:
            raise BadState(f"{self._wrapped.parent}: dek or kek is truncated or not of this release; put them back")
        self._lock = _Lock(0, key)
        if not self._unwrap(data):
            raise BadState(f"{self._wrapped} does not open with {self._wrapping}: one of them is from elsewhere")

    def rotate(self) -> None:
        """A new data key for whatever is written from now on; what was written before stays readable."""
        self.keys.add(self._random())
        self._save()

    def retire(self, in_use: Iterable[bytes]) -> None:
        """Forget the data keys that are not ``in_use``, by their ids; never the newest."""
        known = len(self.keys.ids())
        self.keys.keep(in_use)
        if len(self.keys.ids()) < known:
            self._save()

    def _unwrap(self, data: bytes) -> bool:
        plain = self._lock.keys().open_whole("dek", data[_HEAD.size :], data[: _HEAD.size])
        if plain is None:
            return False
        contents = msgspec.msgpack.decode(plain, type=_Contents)
        if contents.format > _FORMAT:
            raise BadState(f"{self._wrapped} was written by a newer release; upgrade this agent")
        self.keys, self.guard = DataKeys(map(Secret, contents.keys)), Secret(contents.guard)
        return True

    def _save(self) -> None:
        head = _HEAD.pack(_MAGIC, self._lock.version)
        contents = _Contents(_FORMAT, [key.reveal() for key in self.keys.all()], self.guard.reveal())
        sealed = self._lock.keys().seal_whole("dek", msgspec.msgpack.encode(contents), self._entropy, head)
        write_atomically(self._files, self._wrapped, head + sealed)

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

    def keys(self) -> DataKeys:
        return DataKeys([self.key])
