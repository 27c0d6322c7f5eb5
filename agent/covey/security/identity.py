# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's identity on disk: key, certificate and root in one file, so that no crash can mix two of them.

`identity.json` is the identity, `pending.json` the key of a join that is not complete.  Directory 0700, files 0600,
each replaced as a whole (write, fsync, rename, fsync of the directory).  With a guard, the identity's key is sealed.
Never in it: deleting what it cannot read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from covey import durable
from covey.model import errors
from covey.model.codec import UNREADABLE
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import keys
from covey.security.certificate import Peer, is_issued_by, read_certificates, read_peer

IDENTITY_FILE = "identity.json"
PENDING_FILE = "pending.json"
FORMAT = 1
SIZE_LIMIT = 256 * 1024
_KNOWN = frozenset({IDENTITY_FILE, PENDING_FILE, IDENTITY_FILE + durable.UNFINISHED, PENDING_FILE + durable.UNFINISHED})


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes this host a node; built by `assemble`, which holds that the parts belong together.  All PEM."""

    node_id: str
    cluster_id: str
    role: Role
    certificate: bytes
    key: Secret
    root: bytes
    not_before: float
    not_after: float


class _Version(msgspec.Struct, frozen=True, rename="pascal"):
    version: int


class _IdentityFile(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    version: int
    certificate: str
    key: str
    root: str

    def __repr__(self) -> str:
        return "_IdentityFile(***)"


class _PendingFile(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    version: int
    key: str

    def __repr__(self) -> str:
        return "_PendingFile(***)"


_File = TypeVar("_File", _IdentityFile, _PendingFile)


def assemble(certificate: bytes, key: Secret, root: bytes) -> Identity:
    """The identity that these three make.

    InvalidArgument or Forbidden when they do not: the key is another certificate's, no root signed it, it is not a
    node's certificate.  Expiry is not looked at: an expired node must still be able to say so.  While the cluster's
    root is rotated, the certificate is followed by one that leads to the old root, and ``root`` holds both.
    """
    leaf, *_ = read_certificates(certificate)
    peer: Peer = read_peer(leaf)
    if not any(is_issued_by(leaf, authority) for authority in read_certificates(root, "root certificate")):
        raise errors.InvalidArgument("the certificate was not signed by the root certificate beside it")
    if leaf.public_key() != keys.read_key(key).public_key():
        raise errors.InvalidArgument("the private key does not belong to the certificate")
    return Identity(peer.node_id, peer.cluster_id, peer.role, certificate, key, root, peer.not_before, peer.not_after)


def save(directory: Path, identity: Identity, guard: Secret | None = None) -> None:
    """Make this the node's identity, durably; the pending key, having done its work, goes."""
    assemble(identity.certificate, identity.key, identity.root)
    key = keys.seal_key(identity.key, guard) if guard else identity.key
    content = _IdentityFile(
        version=FORMAT,
        certificate=identity.certificate.decode("ascii"),
        key=key.reveal().decode("ascii"),
        root=identity.root.decode("ascii"),
    )
    _replace(directory, IDENTITY_FILE, msgspec.json.encode(content))
    durable.remove(directory / PENDING_FILE)


def load(directory: Path, guard: Secret | None = None) -> Identity | None:
    """The node's identity, or None where there is none yet.

    BadState, and nothing deleted, when it is damaged; Locked when its key is sealed and no guard is given.
    """
    _refuse_foreign(directory)
    path = directory / IDENTITY_FILE
    content = _read(path, _IdentityFile)
    if content is None:
        return None
    key = Secret(content.key.encode())
    try:
        if keys.is_sealed(key):
            key = _opened(key, guard)
        return assemble(content.certificate.encode(), key, content.root.encode())
    except (errors.InvalidArgument, errors.Forbidden) as error:
        raise _damaged(path, str(error)) from error


def _opened(key: Secret, guard: Secret | None) -> Secret:
    if guard is None:
        raise errors.Locked
    return keys.open_key(key, guard)


def peek(directory: Path) -> Peer | None:
    """Whom the certificate names, which can be read while the key is sealed; None and BadState as ``load``."""
    _refuse_foreign(directory)
    path = directory / IDENTITY_FILE
    content = _read(path, _IdentityFile)
    try:
        return None if content is None else read_peer(read_certificates(content.certificate.encode())[0])
    except (errors.InvalidArgument, errors.Forbidden) as error:
        raise _damaged(path, str(error)) from error


def forget(directory: Path) -> None:
    """Drop identity and pending key, as a node does that has left its cluster."""
    durable.remove(directory / PENDING_FILE)
    durable.remove(directory / IDENTITY_FILE)


def pending_key(directory: Path) -> Secret | None:
    """The key of a join that was asked for and is not complete."""
    path = directory / PENDING_FILE
    content = _read(path, _PendingFile)
    if content is None:
        return None
    key = Secret(content.key.encode())
    try:
        keys.read_key(key)
    except errors.InvalidArgument as error:
        raise _damaged(path, str(error)) from error
    return key


def keep_pending_key(directory: Path, key: Secret) -> Secret:
    """Keep this key until the join completes; the key already pending, if there is one, stays and is returned."""
    _refuse_foreign(directory)
    kept = pending_key(directory)
    if kept is not None:
        return kept
    content = _PendingFile(version=FORMAT, key=key.reveal().decode("ascii"))
    _replace(directory, PENDING_FILE, msgspec.json.encode(content))
    return key


def _refuse_foreign(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise errors.BadState(f"{directory} is not a directory: move it away, or set another state directory")
    strange = sorted(entry.name for entry in directory.iterdir() if entry.name not in _KNOWN)
    if strange:
        raise errors.BadState(
            f"{directory / strange[0]} is not Covey's: the directory may belong to something else; "
            "move it away, or set another state directory. Nothing was changed"
        )


def _read(path: Path, kind: type[_File]) -> _File | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise errors.BadState(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise errors.BadState(
            f"{path} holds a private key and others may read it (mode {mode & 0o777:04o}): run `chmod 0600 {path}`, "
            "and if the key may have been copied, remove the node from the cluster and join it anew"
        )
    return _decode(path, data, kind)


def _decode(path: Path, data: bytes, kind: type[_File]) -> _File:
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > FORMAT:
            raise errors.BadState(
                f"{path} has format {version}, this release knows {FORMAT}: install the newer release"
            )
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise _damaged(path, "truncated, or not Covey's") from error


def _damaged(path: Path, reason: str) -> errors.BadState:
    return errors.BadState(
        f"{path}: {reason}. Restore it from a backup; or move its directory away and join the node anew. "
        "Nothing was deleted"
    )


def _replace(directory: Path, name: str, data: bytes) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    durable.replace(directory / name, data)
