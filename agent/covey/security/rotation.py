# SPDX-License-Identifier: GPL-3.0-or-later
"""One root in another's place: what a given root must be, and the certificate by which nodes of the old one accept it.

Never in it: when nodes move, what the cluster remembers of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from covey.model import errors
from covey.model.secret import Secret
from covey.security import ca, keys, tls
from covey.security.ca import RootCA
from covey.security.certificate import is_issued_by, read_certificate
from covey.security.identity import Identity, assemble

#: What a given root must have left.
LEAST_LEFT = timedelta(days=365)
#: Of OpenSSL: certificates are looked at whatever the time is.
_NO_CHECK_TIME = 0x200000
_CERTIFICATE, _KEY, _AUTHORITIES = "CAConfig.SigningCACert", "CAConfig.SigningCAKey", "CAConfig.ExternalCAs"


def given_root(certificate_pem: bytes, key_pem: Secret, now: float) -> RootCA:
    """A root that an operator brings, its PEM written anew; without a key, others must sign for it.

    InvalidArgument says why it cannot be the root of a cluster.
    """
    certificate = _read(certificate_pem)
    _check_authority(certificate)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    today = datetime.fromtimestamp(now, UTC)
    if start > today or end < today + LEAST_LEFT:
        raise errors.InvalidArgument(
            f"it holds from {start} to {end}; it must hold for a year from now on", _CERTIFICATE
        )
    if key_pem and _public_key(key_pem) != certificate.public_key():
        raise errors.InvalidArgument("it is not the key of the root certificate beside it", _KEY)
    return RootCA(certificate.public_bytes(serialization.Encoding.PEM), key_pem)


def _read(pem: bytes) -> x509.Certificate:
    try:
        return read_certificate(pem, "root certificate")
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(str(error), _CERTIFICATE) from error


def _public_key(key_pem: Secret) -> object:
    try:
        return keys.read_key(key_pem).public_key()
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(str(error), _KEY) from None


def _check_authority(certificate: x509.Certificate) -> None:
    if not is_issued_by(certificate, certificate):
        raise errors.InvalidArgument("it is not a root: it is signed by another authority, not by itself", _CERTIFICATE)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise errors.InvalidArgument(f"it lacks what a root must say of itself: {error}", _CERTIFICATE) from error
    if not constraints.ca:
        raise errors.InvalidArgument("it is not an authority's certificate (CA:FALSE)", _CERTIFICATE)
    if constraints.path_length == 0:
        raise errors.InvalidArgument(
            "its path length is 0, so no other root could ever take its place without a gap: use one without a limit",
            _CERTIFICATE,
        )


def cross_sign(old: RootCA, new_certificate: bytes, now: float) -> bytes:
    """The new root's name and key, signed by the old root (PEM); nothing if they are the same."""
    old_certificate, new = read_certificate(old.cert_pem), read_certificate(new_certificate)
    if old_certificate == new:
        return b""
    start = datetime.fromtimestamp(int(now), UTC) - ca.BACKDATE
    end = min(old_certificate.not_valid_after_utc, new.not_valid_after_utc)
    own = new.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    cross = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(old_certificate.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca.usage(authority=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(ca.issuer_identifier(old_certificate), critical=False)
        .sign(keys.read_key(old.key_pem), hashes.SHA256())
    )
    return cross.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Sample:
    """A manager's certificate of some root (PEM), for a key that nobody else has: to see that it will do."""

    root: bytes
    leaf: bytes
    key: Secret


def try_out(sample: Sample) -> None:
    """InvalidArgument unless nodes with such certificates will accept each other."""
    who = assemble(sample.leaf, sample.key, sample.root)
    _rehearse([(who, who)], "nodes could not trust each other's certificates", _AUTHORITIES)


def rehearse(old: Sample, new: Sample, cross: bytes) -> None:
    """InvalidArgument unless nodes that have moved and nodes that have not will accept each other.

    By doing it, in memory: whatever a root made elsewhere says, OpenSSL has the last word.
    """
    stays = assemble(old.leaf, old.key, old.root)
    moves = assemble(new.leaf + cross, new.key, old.root + new.root)
    has_moved = assemble(new.leaf, new.key, new.root)
    pairs = [(stays, moves), (moves, stays), (moves, has_moved), (has_moved, moves)]
    complaint = "nodes could not trust each other's certificates while it takes the old root's place"
    _rehearse(pairs, complaint, _CERTIFICATE)


def _rehearse(pairs: Sequence[tuple[Identity, Identity]], complaint: str, path: str) -> None:
    for server, client in pairs:
        try:
            _shake_hands(tls.server_context(server, "required"), tls.client_context(client))
        except ssl.SSLError as error:
            raise errors.InvalidArgument(f"{complaint}: {error}", path) from error


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    for context in (server_context, client_context):
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(upward, downward, server_side=True)
    client = client_context.wrap_bio(downward, upward)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
