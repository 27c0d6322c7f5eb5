# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading certificates: whom one names and for how long.  Never in it: making one, trusting one."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from covey.model import errors
from covey.model.spec import Role

MANAGER_NAME = "swarm-manager"
WORKER_NAME = "swarm-worker"
UNIT_OF_ROLE = {Role.MANAGER: MANAGER_NAME, Role.WORKER: WORKER_NAME}
ROLE_OF_UNIT = {unit: role for role, unit in UNIT_OF_ROLE.items()}
PEM_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """The node that a certificate names; times are unix seconds, the fingerprint is sha256 of the DER in hex."""

    node_id: str
    cluster_id: str
    role: Role
    not_before: float
    not_after: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class IssuerInfo:
    """What the API shows of the authority: DER of its subject and of its public key."""

    subject: bytes
    public_key: bytes


def read_certificate(pem: bytes, what: str = "certificate") -> x509.Certificate:
    """The one certificate in `pem`; InvalidArgument when there is none, more than one, or anything unreadable."""
    found = read_certificates(pem, what)
    if len(found) != 1:
        raise errors.InvalidArgument(f"the {what} holds {len(found)} certificates where one is expected")
    return found[0]


def normal_pem(pem: bytes) -> bytes:
    """The root certificate written anew, so that two texts of one certificate are the same."""
    return read_certificate(pem, "root certificate").public_bytes(serialization.Encoding.PEM)


def read_certificates(pem: bytes, what: str = "certificate") -> list[x509.Certificate]:
    """All certificates in `pem`, a node's own before those between it and a root; at least one."""
    if len(pem) > PEM_LIMIT:
        raise errors.InvalidArgument(f"the {what} is larger than {PEM_LIMIT} bytes")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise errors.InvalidArgument(f"the {what} is not a PEM certificate: {error}") from error
    return found


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether that authority's key signed it, and it says so."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_peer(certificate: x509.Certificate) -> Peer:
    """Whom a node certificate names; Forbidden when it is not one.  Trust is the TLS layer's business."""
    role = ROLE_OF_UNIT.get(_only(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"))
    if role is None:
        raise errors.Forbidden(
            f"the certificate's OU is neither {MANAGER_NAME} nor {WORKER_NAME}: it is not a node's certificate"
        )
    return Peer(
        node_id=_only(certificate, NameOID.COMMON_NAME, "CN"),
        cluster_id=_only(certificate, NameOID.ORGANIZATION_NAME, "O"),
        role=role,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def fingerprint(pem: bytes) -> str:
    """sha256 of the first certificate's DER, in hex, as `openssl x509 -fingerprint -sha256` without the colons."""
    return read_certificates(pem)[0].fingerprint(hashes.SHA256()).hex()


def issuer_info(root_pem: bytes) -> IssuerInfo:
    """The parts of the root that `TLSInfo` of the API shows."""
    return issuer_of(read_certificate(root_pem, "root certificate"))


def issuer_of(root: x509.Certificate) -> IssuerInfo:
    """The same of a certificate that was read."""
    public = root.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return IssuerInfo(root.subject.public_bytes(), public)


def _only(certificate: x509.Certificate, oid: x509.ObjectIdentifier, name: str) -> str:
    values = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]
    if len(values) != 1:
        raise errors.Forbidden(f"the certificate names {len(values)} {name}: it is not a node's certificate")
    return values[0]
