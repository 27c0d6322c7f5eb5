# SPDX-License-Identifier: GPL-3.0-or-later
"""What an authority outside of the cluster is asked to sign, and whether what it signed is that.

Nothing of an answer is believed: each certificate must be what the cluster's own root would have signed, as far as
nodes depend on it.  Never in it: how the authority is reached, what it speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from covey.model.errors import Forbidden, InvalidArgument, NotSigned
from covey.model.spec import Role
from covey.security import keys
from covey.security.ca import RootCA
from covey.security.certificate import (
    ROLE_OF_UNIT,
    UNIT_OF_ROLE,
    is_issued_by,
    read_certificate,
    read_certificates,
    read_peer,
)

E = TypeVar("E", bound=x509.ExtensionType)

#: What a certificate must have left, so that its node can come back for the next.
LEAST_LEFT = timedelta(minutes=30)
_USES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate that a node is to have, for the key of its request (PEM)."""

    csr: bytes
    node_id: str
    role: Role
    cluster_id: str

    @property
    def hosts(self) -> tuple[str, str]:
        """Its DNS names."""
        return UNIT_OF_ROLE[self.role], self.node_id


@contextmanager
def _readable() -> Iterator[None]:
    """What cannot be read is no certificate either."""
    try:
        yield
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise NotSigned(f"the certificate cannot be read: {error}") from error


@_readable()
def check_leaf(signed: bytes, root_pem: bytes, wanted: Leaf, now: float) -> bytes:
    """The node certificate (PEM) that was signed, without what follows it; NotSigned says what is wrong with it."""
    leaf = _first(signed)
    if leaf.public_key() != keys.public_key_of_csr(wanted.csr):
        raise NotSigned("the certificate is for another key than that of the request")
    _check_issuer(leaf, root_pem)
    _check_names(leaf, wanted)
    _check_uses(leaf)
    _check_time(leaf, now)
    return leaf.public_bytes(serialization.Encoding.PEM)


def root_request(root: RootCA) -> bytes:
    """A request (PEM) with the root's own name and key, by which another root can vouch for it."""
    certificate = read_certificate(root.cert_pem, "root certificate")
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(keys.read_key(root.key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@_readable()
def check_cross(signed: bytes, old_pem: bytes, new_pem: bytes) -> bytes:
    """The new root's name and key as signed by the old root (PEM); NotSigned if it is not that."""
    cross, new = _first(signed), read_certificate(new_pem, "root certificate")
    if cross.public_key() != new.public_key() or cross.subject != new.subject:
        raise NotSigned("the certificate is not for the new root's name and key")
    _check_issuer(cross, old_pem)
    constraints = _extension(cross, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise NotSigned("the certificate is not an authority's (CA:FALSE); is there a profile for it, with is_ca?")
    return cross.public_bytes(serialization.Encoding.PEM)


def _first(signed: bytes) -> x509.Certificate:
    try:
        return read_certificates(signed)[0]
    except InvalidArgument as error:
        raise NotSigned(str(error)) from error


def _check_issuer(certificate: x509.Certificate, root_pem: bytes) -> None:
    root = read_certificate(root_pem, "root certificate")
    if not is_issued_by(certificate, root):
        raise NotSigned(
            f"the certificate was signed by {_name(certificate.issuer)}, and not by the key of the root "
            f"{_name(root.subject)}, as it must be (an authority in between will not do)"
        )
    if _extension(certificate, x509.AuthorityKeyIdentifier) is None:
        raise NotSigned("the certificate lacks the authority key identifier")


def _check_names(leaf: x509.Certificate, wanted: Leaf) -> None:
    try:
        peer = read_peer(leaf)
    except Forbidden as error:
        raise NotSigned(str(error)) from error
    if (peer.node_id, peer.role, peer.cluster_id) != (wanted.node_id, wanted.role, wanted.cluster_id):
        raise NotSigned(
            f"the certificate says CN {peer.node_id}, OU {UNIT_OF_ROLE[peer.role]}, O {peer.cluster_id}; asked for "
            f"were CN {wanted.node_id}, OU {UNIT_OF_ROLE[wanted.role]}, O {wanted.cluster_id}"
        )
    names = _extension(leaf, x509.SubjectAlternativeName)
    found = set(names.get_values_for_type(x509.DNSName)) if names else set()
    if not found.issuperset(wanted.hosts) or found & (ROLE_OF_UNIT.keys() - set(wanted.hosts)):
        raise NotSigned(
            f"the certificate's DNS names are {', '.join(sorted(found)) or 'none'}; asked for were "
            f"{', '.join(wanted.hosts)}"
        )


def _check_uses(leaf: x509.Certificate) -> None:
    constraints, usage = _extension(leaf, x509.BasicConstraints), _extension(leaf, x509.KeyUsage)
    if constraints is not None and constraints.ca:
        raise NotSigned("the certificate is an authority's own (CA:TRUE), not a node's")
    uses = set(_extension(leaf, x509.ExtendedKeyUsage) or ())
    missing = [name for oid, name in _USES.items() if oid not in uses]
    if missing:
        raise NotSigned(f"the certificate lacks the extended key usage {', '.join(missing)}: nodes need both of them")
    if usage is not None and not usage.digital_signature:
        raise NotSigned("the certificate lacks the key usage digitalSignature")


def _check_time(leaf: x509.Certificate, now: float) -> None:
    today, start, end = datetime.fromtimestamp(now, UTC), leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if start > today or end < today + LEAST_LEFT:
        raise NotSigned(
            f"the certificate holds from {start} to {end}; it must hold now and for {LEAST_LEFT} at least (this "
            f"manager's clock says {today:%Y-%m-%d %H:%M:%S} UTC)"
        )


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "nobody"
