# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup file: two lines that say what it is, and behind them the whole state, sealed under a passphrase.

    file  = "covey backup, format 1" | About as JSON | frames          each of the two on a line of its own
    frame = length 4, its highest bit set on the last one | sealed list of chunks

The lines are authenticated with every frame.  Never in it: where the file lies, who may have it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import IO

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import field

from covey.model.errors import BadState, InvalidArgument
from covey.model.secret import Secret
from covey.state.codec import decode_view, encode_view
from covey.state.view import View
from covey.store.raft.seal import KEY_SIZE, Entropy, Sealer

FORMAT = 1
#: A passphrase that protects the authority's key has to be worth something.
SHORTEST_PASSPHRASE = 12

_TITLE = b"covey backup, format "
_LONGEST_LINE = 4096
_SALT_SIZE = 16
#: 64 MiB and a third of a second for each guess; part of the format, so a file cannot ask for more.
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1}
_LENGTH = struct.Struct("<I")
_LAST = 1 << 31
_FRAME_BYTES = 256 << 10
#: A frame, and one object as large as any can be.
_LONGEST_FRAME = 8 << 20
_chunks = msgspec.msgpack.Decoder(list[bytes]).decode


class About(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What anybody may know of a backup.  ``check`` tells a wrong passphrase from a damaged file."""

    cluster_id: str = field(name="ClusterID")
    index: int
    taken_at: str
    release: str
    salt: str
    check: str = ""


def check_passphrase(passphrase: Secret) -> None:
    """Refuse to protect a cluster's keys with next to nothing."""
    if len(passphrase.reveal()) < SHORTEST_PASSPHRASE:
        raise InvalidArgument(
            f"the passphrase is shorter than {SHORTEST_PASSPHRASE} characters; the backup holds the key of the "
            "cluster's authority, and whoever guesses the passphrase can be any node",
            "Passphrase",
        )


def write(view: View, taken_at: str, release: str, passphrase: Secret, entropy: Entropy) -> Iterator[bytes]:
    """The file of that state, piece by piece; the first piece takes a moment."""
    salt = entropy(_SALT_SIZE)
    sealer = _sealer(passphrase, salt)
    about = About(
        cluster_id=view.cluster.id,
        index=view.index,
        taken_at=taken_at,
        release=release,
        salt=salt.hex(),
        check=sealer.seal(0, b"", b"check").hex(),
    )
    head = _TITLE + b"%d\n" % FORMAT + msgspec.json.encode(about) + b"\n"
    yield head
    digest = hashlib.sha256(head).digest()
    held: bytes | None = None
    number = 0
    for piece in _pieces(encode_view(view)):
        if held is not None:
            number += 1
            yield _frame(sealer, number, held, digest, last=False)
        held = piece
    yield _frame(sealer, number + 1, held or b"", digest, last=True)


def read_about(file: IO[bytes]) -> About:
    """What the file says it is; InvalidArgument if it is no backup that this release can read."""
    return _read_head(file)[0]


def read(file: IO[bytes], passphrase: Secret) -> tuple[About, View]:
    """The state in the file, whole or not at all; InvalidArgument says what is wrong with file or passphrase."""
    about, head = _read_head(file)
    sealer = _sealer(passphrase, bytes.fromhex(about.salt))
    if sealer.open(0, bytes.fromhex(about.check), b"check") is None:
        raise InvalidArgument("the passphrase is not the one that this backup was made with", "Passphrase")
    frames = _read_frames(file, sealer, hashlib.sha256(head).digest())
    try:
        view = decode_view(chunk for frame in frames for chunk in _chunks(frame))
    except (BadState, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"the backup opens, but its content cannot be read: {error}") from error
    if (view.cluster.id, view.index) != (about.cluster_id, about.index):
        raise InvalidArgument("the backup's first lines are not those of the state behind them; use another copy")
    return about, view


def _sealer(passphrase: Secret, salt: bytes) -> Sealer:
    derive = Scrypt(salt=salt, length=KEY_SIZE, **_SCRYPT)
    return Sealer(Secret(derive.derive(passphrase.reveal())), "backup", salt)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= _FRAME_BYTES:
            yield msgspec.msgpack.encode(batch)
            batch, size = [], 0
    yield msgspec.msgpack.encode(batch)


def _frame(sealer: Sealer, number: int, piece: bytes, digest: bytes, *, last: bool) -> bytes:
    sealed = sealer.seal(number, piece, _context(digest, last=last))
    return _LENGTH.pack(len(sealed) | (_LAST if last else 0)) + sealed


def _context(digest: bytes, *, last: bool) -> bytes:
    return digest + (b"last" if last else b"more")


def _read_head(file: IO[bytes]) -> tuple[About, bytes]:
    title, line = file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE)
    version = title.removeprefix(_TITLE).strip()
    if not title.startswith(_TITLE) or not version.isdigit():
        raise InvalidArgument(f"this is no backup of Covey: one begins with {_TITLE.decode()!r}")
    if int(version) > FORMAT:
        raise InvalidArgument(
            f"the backup has format {int(version)}, written by a newer release; this one reads format {FORMAT}: "
            "install the release that made it, or a newer one"
        )
    try:
        about = msgspec.json.decode(line, type=About)
        bytes.fromhex(about.salt), bytes.fromhex(about.check)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidArgument(f"the backup's second line is damaged ({error}); use another copy of the file") from error
    return about, title + line


def _read_frames(file: IO[bytes], sealer: Sealer, digest: bytes) -> Iterator[bytes]:
    number, last = 0, False
    while not last:
        number += 1
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
        last, size = bool(length & _LAST), length & ~_LAST
        sealed = file.read(size) if size <= _LONGEST_FRAME else b""
        whole = sealed and len(sealed) == size
        plain = sealer.open(number, sealed, _context(digest, last=last)) if whole else None
        if plain is None:
            raise InvalidArgument(f"the backup is truncated or damaged at frame {number}; use another copy of the file")
        yield plain
    if file.read(1):
        raise InvalidArgument("something follows the backup's end; use another copy of the file")
