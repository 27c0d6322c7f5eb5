# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption at rest: the data keys, and one key derived for each file from one of them.  Never in it: where keys are.

Never a nonce twice under one key: every file begins with a stamp, the id of a data key and a random id of its own,
hence has its own key, and counts its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from covey.model.secret import Secret

Entropy = Callable[[int], bytes]

KEY_SIZE = 32
KEY_ID_SIZE = 8
FILE_ID_SIZE = 16
STAMP_SIZE = KEY_ID_SIZE + FILE_ID_SIZE
TAG_SIZE = 16
_NONCE_SIZE = 12


class Sealer:
    """Seals and opens the numbered records of one file."""

    def __init__(self, key: Secret, purpose: str, file_id: bytes) -> None:
        self._cipher = ChaCha20Poly1305(_derive(key, b"covey " + purpose.encode(), KEY_SIZE, file_id))

    def seal(self, number: int, data: bytes, context: bytes) -> bytes:
        """The ciphertext of record ``number`` with its tag at the end; ``context`` is authenticated with it."""
        return self._cipher.encrypt(number.to_bytes(_NONCE_SIZE, "little"), data, context)

    def open(self, number: int, sealed: bytes, context: bytes) -> bytes | None:
        """The plaintext, or None if a bit of it, its number or its context is not what was sealed."""
        try:
            return self._cipher.decrypt(number.to_bytes(_NONCE_SIZE, "little"), sealed, context)
        except InvalidTag:
            return None


class DataKeys:
    """The keys of a directory's files: the newest for what is written from now on, all for what is read."""

    def __init__(self, keys: Iterable[Secret]) -> None:
        self._keys = {key_id(key): key for key in keys}

    def all(self) -> list[Secret]:
        """Every key, the newest last."""
        return list(self._keys.values())

    def ids(self) -> list[bytes]:
        """Of every key, the newest last."""
        return list(self._keys)

    def among(self, ids: Iterable[bytes]) -> list[Secret]:
        """The keys with these ids, and the newest, last."""
        kept = {*ids, self.ids()[-1]}
        return [key for id_, key in self._keys.items() if id_ in kept]

    def replace(self, keys: Iterable[Secret]) -> None:
        """Hold these, the newest last; files that were begun go on with theirs."""
        self._keys = {key_id(key): key for key in keys}

    def stamp(self, entropy: Entropy) -> bytes:
        """The first bytes of a new file."""
        return self.ids()[-1] + entropy(FILE_ID_SIZE)

    def sealer(self, purpose: str, stamp: bytes) -> Sealer | None:
        """Seals and opens the file with that stamp; None if its key is not here."""
        key = self._keys.get(stamp[:KEY_ID_SIZE])
        return None if key is None else Sealer(key, purpose, stamp[KEY_ID_SIZE:])

    def seal_whole(self, purpose: str, data: bytes, entropy: Entropy, context: bytes = b"") -> bytes:
        """A small file of one record."""
        stamp = self.stamp(entropy)
        return stamp + self._newest(purpose, stamp).seal(0, data, context)

    def open_whole(self, purpose: str, sealed: bytes, context: bytes = b"") -> bytes | None:
        """What ``seal_whole`` sealed, or None."""
        sealer = self.sealer(purpose, sealed[:STAMP_SIZE]) if len(sealed) >= STAMP_SIZE + TAG_SIZE else None
        return None if sealer is None else sealer.open(0, sealed[STAMP_SIZE:], context)

    def _newest(self, purpose: str, stamp: bytes) -> Sealer:
        return Sealer(self.all()[-1], purpose, stamp[KEY_ID_SIZE:])


def key_id(key: Secret) -> bytes:
    """The name of a key; says nothing of the key itself."""
    return _derive(key, b"covey key id", KEY_ID_SIZE, None)


def _derive(key: Secret, purpose: bytes, size: int, salt: bytes | None) -> bytes:
    return HKDF(hashes.SHA256(), size, salt=salt, info=purpose).derive(key.reveal())
