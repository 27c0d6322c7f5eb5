# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority: what it signs, what it refuses to sign."""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from covey.model import errors
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security import ca, keys
from covey.security.certificate import fingerprint, issuer_info, read_certificate, read_peer

from .conftest import NOW, Cluster

NODE = to_id(1)


def csr_of(key: object, digest: hashes.HashAlgorithm | None, name: str = "intruder") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


def sign(cluster: Cluster, csr: bytes, expiry: float = 7200) -> bytes:
    return ca.sign(cluster.root, csr, NODE, Role.WORKER, cluster.cluster_id, NOW, expiry)


def test_root_is_a_p256_authority_for_twenty_years(ours: Cluster) -> None:
    root = read_certificate(ours.root.cert_pem)
    assert root.subject == root.issuer
    assert root.subject.rfc4514_string() == "CN=swarm-ca"
    assert isinstance(root.public_key().curve, ec.SECP256R1)  # type: ignore[union-attr]
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert root.not_valid_after_utc.timestamp() == NOW + 630_720_000
    assert root.not_valid_before_utc.timestamp() == NOW - 3600
    root.verify_directly_issued_by(root)


def test_root_key_hides_itself(ours: Cluster) -> None:
    assert "PRIVATE" not in repr(ours.root)


def test_leaf_names_the_node_its_role_and_its_cluster(ours: Cluster) -> None:
    leaf = read_certificate(sign(ours, keys.make_csr(keys.new_key())))
    peer = read_peer(leaf)
    assert (peer.node_id, peer.cluster_id, peer.role) == (NODE, ours.cluster_id, Role.WORKER)
    assert (peer.not_before, peer.not_after) == (NOW - 3600, NOW + 7200)
    assert leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value == "swarm-worker"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NODE, "swarm-worker"]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_request_cannot_choose_its_name(ours: Cluster) -> None:
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256(), name=to_id(99))
    assert read_peer(read_certificate(sign(ours, csr))).node_id == NODE


def test_a_leaf_never_outlives_its_root(ours: Cluster) -> None:
    leaf = read_certificate(sign(ours, keys.make_csr(keys.new_key()), expiry=40 * 365 * 86_400.0))
    assert leaf.not_valid_after_utc == read_certificate(ours.root.cert_pem).not_valid_after_utc


def test_a_root_that_has_ended_certifies_nobody(ours: Cluster) -> None:
    end = read_certificate(ours.root.cert_pem).not_valid_after_utc.timestamp()
    with pytest.raises(errors.FailedPrecondition, match="the root certificate ended on 2047"):
        ca.sign(ours.root, keys.make_csr(keys.new_key()), NODE, Role.WORKER, ours.cluster_id, end + 1, 86_400.0)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_stronger_curves_are_signed(ours: Cluster, curve: ec.EllipticCurve) -> None:
    assert sign(ours, csr_of(ec.generate_private_key(curve), hashes.SHA384()))


@pytest.mark.parametrize(
    "csr",
    [
        csr_of(ec.generate_private_key(ec.SECP224R1()), hashes.SHA256()),
        csr_of(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
        csr_of(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        csr_of(ed25519.Ed25519PrivateKey.generate(), None),
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        keys.make_csr(keys.new_key()) + b"#" * keys.CSR_LIMIT,
    ],
    ids=["p224", "k1", "rsa", "ed25519", "empty", "garbage", "too large"],
)
def test_weak_or_unreadable_requests_are_refused(ours: Cluster, csr: bytes) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"^CSR: ") as caught:
        sign(ours, csr)
    assert caught.value.path == "CSR"


def test_a_request_for_somebody_elses_key_is_refused(ours: Cluster) -> None:
    csr = x509.load_pem_x509_csr(keys.make_csr(keys.new_key()))
    der = bytearray(csr.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1  # the last byte of the signature
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(errors.InvalidArgument, match="does not prove possession"):
        sign(ours, forged)


@pytest.mark.parametrize("node_id", ["", "swarm-manager", "A" * 25, "a" * 24, "a" * 25 + "\n"])
def test_only_ids_become_names(ours: Cluster, node_id: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="25 characters"):
        ca.sign(ours.root, keys.make_csr(keys.new_key()), node_id, Role.WORKER, ours.cluster_id, NOW, 60)


def test_no_certificate_of_no_duration(ours: Cluster) -> None:
    with pytest.raises(errors.InvalidArgument, match="NodeCertExpiry"):
        sign(ours, keys.make_csr(keys.new_key()), expiry=0)


def test_digest_is_the_peers(ours: Cluster) -> None:
    number = int(hashlib.sha256(ours.root.cert_pem).hexdigest(), 16)
    digest = ca.root_digest(ours.root.cert_pem)
    assert int(digest, 36) == number
    assert len(digest) == 50


def test_digest_does_not_depend_on_line_ends(ours: Cluster) -> None:
    windows = b"# our root\r\n" + ours.root.cert_pem.replace(b"\n", b"\r\n")
    assert ca.root_digest(windows) == ca.root_digest(ours.root.cert_pem)


def test_a_root_is_one_certificate(ours: Cluster, foreign: Cluster) -> None:
    with pytest.raises(errors.InvalidArgument, match="2 certificates"):
        ca.root_digest(ours.root.cert_pem + foreign.root.cert_pem)


def test_a_root_is_not_a_nodes_certificate(ours: Cluster) -> None:
    with pytest.raises(errors.Forbidden, match="OU"):
        read_peer(read_certificate(ours.root.cert_pem))


def test_fingerprint_and_issuer(ours: Cluster) -> None:
    root = read_certificate(ours.root.cert_pem)
    der = root.public_bytes(serialization.Encoding.DER)
    assert fingerprint(ours.root.cert_pem) == hashlib.sha256(der).hexdigest()
    info = issuer_info(ours.root.cert_pem)
    assert info.subject == root.subject.public_bytes()
    assert serialization.load_der_public_key(info.public_key) == root.public_key()


def test_a_foreign_key_is_not_read() -> None:
    with pytest.raises(errors.InvalidArgument, match="private key"):
        keys.read_key(ca.RootCA(b"", keys.Secret(b"-----BEGIN nothing")).key_pem)
