# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's certificate authority: one root, and node certificates signed by it.

A certificate says CN node id, O cluster id, OU swarm-manager or swarm-worker, and carries node id and OU as DNS names,
so that a client can insist on a manager within the handshake.  Never in it: who may have which certificate.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from covey.model import errors
from covey.model.ids import base36
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import keys
from covey.security.certificate import UNIT_OF_ROLE, read_certificate

ROOT_NAME = "swarm-ca"
ROOT_LIFETIME = timedelta(seconds=630_720_000)  # 20 years of 365 days
BACKDATE = timedelta(hours=1)  # clocks of hosts differ; a certificate must hold at once everywhere
DIGEST_LENGTH = 50  # 36**50 > 2**256
_ID = re.compile(r"[0-9a-z]{25}")


@dataclass(frozen=True, slots=True)
class RootCA:
    """The root's certificate and key, both PEM."""

    cert_pem: bytes
    key_pem: Secret


def create_root(now: float) -> RootCA:
    """A new self-signed root, valid from one hour ago for 20 years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ROOT_NAME)])
    start = _time(now) - BACKDATE
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), (start, start + BACKDATE + ROOT_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return RootCA(certificate.public_bytes(serialization.Encoding.PEM), keys.key_pem(key))


def sign(  # noqa: PLR0913, PLR0917 -- what a certificate says are exactly these facts
    root: RootCA, csr_pem: bytes, node_id: str, role: Role, cluster_id: str, now: float, expiry_seconds: float
) -> bytes:
    """A node certificate (PEM) for the key of the request, valid from one hour ago until `expiry_seconds` from now.

    The request's own subject and extensions are ignored.  The certificate never outlives the root.
    """
    _check_facts(node_id, cluster_id, expiry_seconds)
    public_key = keys.public_key_of_csr(csr_pem)
    root_key = keys.read_key(root.key_pem)
    issuer = read_certificate(root.cert_pem, "root certificate")
    if issuer.not_valid_after_utc <= _time(now):
        raise errors.FailedPrecondition(
            f"the root certificate ended on {issuer.not_valid_after_utc:%Y-%m-%d} by this manager's clock, so it can "
            "certify nobody: if the clock is wrong, set it right (timedatectl)"
        )
    end = min(_time(now) + timedelta(seconds=expiry_seconds), issuer.not_valid_after_utc)
    certificate = (
        _builder(_subject(node_id, role, cluster_id), issuer.subject, public_key, (_time(now) - BACKDATE, end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(node_id), x509.DNSName(UNIT_OF_ROLE[role])]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_identifier(issuer), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def root_digest(cert_pem: bytes) -> str:
    """sha256 of the root's PEM, 50 characters of base36, as the peer has it in its tokens.

    The PEM is written anew first, so line ends or a comment around the certificate do not change the digest.
    """
    pem = read_certificate(cert_pem, "root certificate").public_bytes(serialization.Encoding.PEM)
    return base36(int.from_bytes(hashlib.sha256(pem).digest()), DIGEST_LENGTH)


def issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As the issuer calls its key: a root made elsewhere may name it in its own way."""
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _check_facts(node_id: str, cluster_id: str, expiry_seconds: float) -> None:
    for what, value in (("node id", node_id), ("cluster id", cluster_id)):
        if not _ID.fullmatch(value):
            raise errors.InvalidArgument(f"{what} {value!r} is not 25 characters of base36")
    if expiry_seconds <= 0:
        raise errors.InvalidArgument(f"a certificate cannot last {expiry_seconds} seconds", "CAConfig.NodeCertExpiry")


def _subject(node_id: str, role: Role, cluster_id: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, UNIT_OF_ROLE[role]),
            x509.NameAttribute(NameOID.COMMON_NAME, node_id),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, validity: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def usage(*, authority: bool) -> x509.KeyUsage:
    """What a key may be used for: to sign certificates, or to shake hands."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
