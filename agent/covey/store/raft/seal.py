# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption at rest: the data key, wrapped by a key beside it, and one derived key for each file.

Never a nonce twice under one key: every file has its own random id, hence its own key, and counts its records.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import Files, write_atomically

Entropy = Callable[[int], bytes]

KEY_SIZE = 32
FILE_ID_SIZE = 16
TAG_SIZE = 16
_NONCE_SIZE = 12
_WRAP_MAGIC = b"CVYDEK\x00\x01"


class Sealer:
    """Seals and opens the numbered records of one file."""

    def __init__(self, key: Secret, purpose: str, file_id: bytes) -> None:
        derive = HKDF(hashes.SHA256(), KEY_SIZE, salt=file_id, info=b"covey " + purpose.encode())
        self._cipher = ChaCha20Poly1305(derive.derive(key.reveal()))

    def seal(self, number: int, data: bytes, context: bytes) -> bytes:
        """The ciphertext of record ``number`` with its tag at the end; ``context`` is authenticated with it."""
        return self._cipher.encrypt(number.to_bytes(_NONCE_SIZE, "little"), data, context)

    def open(self, number: int, sealed: bytes, context: bytes) -> bytes | None:
        """The plaintext, or None if a bit of it, its number or its context is not what was sealed."""
        try:
            return self._cipher.decrypt(number.to_bytes(_NONCE_SIZE, "little"), sealed, context)
        except InvalidTag:
            return None


def seal_whole(key: Secret, purpose: str, data: bytes, entropy: Entropy) -> bytes:
    """A small file of one record."""
    file_id = entropy(FILE_ID_SIZE)
    return file_id + Sealer(key, purpose, file_id).seal(0, data, b"")


def open_whole(key: Secret, purpose: str, sealed: bytes) -> bytes | None:
    """What ``seal_whole`` sealed, or None."""
    if len(sealed) < FILE_ID_SIZE + TAG_SIZE:
        return None
    return Sealer(key, purpose, sealed[:FILE_ID_SIZE]).open(0, sealed[FILE_ID_SIZE:], b"")


class KeyRing:
    """The data key of a state directory: ``dek``, wrapped by the key in ``kek``.

    Who holds only the files of the state, not ``kek``, reads nothing.  The wrapping key is kept apart so that it can
    later come from a person instead of the disk without rewriting any data.
    """

    def __init__(self, directory: Path, files: Files, entropy: Entropy) -> None:
        self._wrapped, self._wrapping = directory / "dek", directory / "kek"
        self._files, self._entropy = files, entropy

    def exists(self) -> bool:
        """Whether there is a data key."""
        return self._wrapped.exists()

    def create(self) -> Secret:
        """Make both keys; only ever in a directory without state."""
        kek, dek = Secret(self._entropy(KEY_SIZE)), Secret(self._entropy(KEY_SIZE))
        write_atomically(self._files, self._wrapping, kek.reveal())
        sealed = seal_whole(kek, "dek", dek.reveal(), self._entropy)
        write_atomically(self._files, self._wrapped, _WRAP_MAGIC + sealed)
        return dek

    def open(self) -> Secret:
        """The data key; BadState if either file is missing or not of this pair."""
        for path in (self._wrapping, self._wrapped):
            if not path.exists():
                raise BadState(f"{path} is missing, so nothing in {path.parent} can be read; put it back from a backup")
        wrapped = self._wrapped.read_bytes()
        kek = Secret(self._wrapping.read_bytes())
        if not wrapped.startswith(_WRAP_MAGIC) or len(kek.reveal()) != KEY_SIZE:
            raise BadState(f"{self._wrapped.parent}: dek or kek is truncated or not Covey's; put them back")
        key = open_whole(kek, "dek", wrapped[len(_WRAP_MAGIC) :])
        if key is None:
            raise BadState(f"{self._wrapped} does not open with {self._wrapping}: one of them is from elsewhere")
        return Secret(key)
