# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of the old root and of the new one accept each other; which roots may take another's place."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from covey.daemon.clock import SystemClock
from covey.model.errors import InvalidArgument
from covey.model.ids import to_id
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import ca, keys, tls
from covey.security.ca import RootCA
from covey.security.certificate import read_certificate, read_certificates
from covey.security.identity import Identity, assemble, load, save
from covey.security.rotation import Sample, cross_sign, given_root, rehearse

NOW = SystemClock().now()
CLUSTER = to_id(7)
YEARS = datetime.timedelta(days=3650)


@dataclass
class Made:
    """A root as somebody's own tools might make it; ``parts`` leave out or change what a root should say."""

    certificate: bytes
    key: Secret


def elsewhere(*, name: str = "Example Corp Root", begins: float = NOW - 60, lasts=YEARS, curve=None, **parts) -> Made:
    key = (
        ec.generate_private_key(curve or ec.SECP384R1())
        if not parts.get("rsa")
        else rsa.generate_private_key(65537, 2048)
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.fromtimestamp(int(begins), datetime.UTC)
    identifier = x509.SubjectKeyIdentifier(parts.get("identifier", b"a name of its own for the key"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lasts)
        .add_extension(x509.BasicConstraints(parts.get("ca", True), parts.get("path_length")), critical=True)
    )
    if parts.get("usage", True):
        builder = builder.add_extension(ca.usage(authority=True), critical=True)
    if identifier.digest:
        builder = builder.add_extension(identifier, critical=False)
    signer = parts.get("signer", key)
    certificate = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return Made(certificate, Secret(pem))


def given(made: Made) -> RootCA:
    return given_root(made.certificate, made.key, NOW)


OLD = ca.create_root(NOW)
ROOTS = {"own": ca.create_root(NOW), "given": given(elsewhere()), "given P-256": given(elsewhere(curve=ec.SECP256R1()))}


def identity(root: RootCA, chain: bytes, trusted: bytes) -> Identity:
    key = keys.new_key()
    leaf = ca.sign(root, keys.make_csr(key), to_id(1), Role.MANAGER, CLUSTER, NOW, 3600.0)
    return assemble(leaf + chain, key, trusted)


def accept_each_other(one: Identity, other: Identity) -> bool:
    """By real handshakes in memory, in both directions."""
    return all(shake(server, client) for server, client in ((one, other), (other, one)))


def shake(server: Identity, client: Identity) -> bool:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        tls.client_context(client).wrap_bio(down, up),
        tls.server_context(server, "required").wrap_bio(up, down, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def sample(root: RootCA) -> Sample:
    who = identity(root, b"", root.cert_pem)
    return Sample(who.root, who.certificate, who.key)


@pytest.mark.parametrize("new", ROOTS.values(), ids=ROOTS)
def test_at_every_moment_of_a_rotation_all_nodes_accept_each_other(new):
    cross = cross_sign(OLD, new.cert_pem, NOW)
    stays = identity(OLD, b"", OLD.cert_pem)
    moves = identity(new, cross, OLD.cert_pem + new.cert_pem)
    moved = identity(new, cross, new.cert_pem)
    fresh = identity(new, b"", new.cert_pem)
    for one, other in [(stays, moves), (moves, moves), (moves, moved), (moved, moved), (moved, fresh), (moves, fresh)]:
        assert accept_each_other(one, other)


def test_without_the_cross_certificate_they_would_not():
    new = ROOTS["own"]
    assert not accept_each_other(identity(OLD, b"", OLD.cert_pem), identity(new, b"", OLD.cert_pem + new.cert_pem))


def test_the_old_root_opens_nothing_once_it_is_dropped():
    new = ROOTS["own"]
    moved = identity(new, cross_sign(OLD, new.cert_pem, NOW), new.cert_pem)
    assert not shake(moved, identity(OLD, b"", new.cert_pem + OLD.cert_pem))


def test_one_rotation_after_another_leads_back_to_the_first_root():
    second, third = ROOTS["own"], ROOTS["given"]
    of_second = identity(second, cross_sign(OLD, second.cert_pem, NOW), OLD.cert_pem + second.cert_pem)
    of_third = identity(third, cross_sign(OLD, third.cert_pem, NOW), OLD.cert_pem + third.cert_pem)
    assert accept_each_other(of_second, of_third)
    assert accept_each_other(of_third, identity(OLD, b"", OLD.cert_pem))


def test_a_root_needs_no_cross_certificate_for_itself():
    assert cross_sign(OLD, OLD.cert_pem, NOW) == b""
    rehearse(sample(OLD), sample(OLD), b"")


def test_a_cross_certificate_signs_no_further_authority_and_ends_with_the_first_of_both():
    new = ROOTS["given"]
    cross = read_certificate(cross_sign(OLD, new.cert_pem, NOW))
    assert cross.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert cross.not_valid_after_utc == read_certificate(new.cert_pem).not_valid_after_utc


def test_an_identity_with_its_chain_is_kept_whole(tmp_path):
    new = ROOTS["own"]
    who = identity(new, cross_sign(OLD, new.cert_pem, NOW), OLD.cert_pem + new.cert_pem)
    save(tmp_path / "identity", who)
    kept = load(tmp_path / "identity")
    assert kept == who
    assert len(read_certificates(kept.certificate)) == len(read_certificates(kept.root)) == 2


def test_a_chain_alone_does_not_make_an_identity():
    """The root that signed must be among those trusted: a node must know its own issuer."""
    new = ROOTS["own"]
    with pytest.raises(InvalidArgument, match="not signed by the root"):
        identity(new, cross_sign(OLD, new.cert_pem, NOW), OLD.cert_pem)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (elsewhere(path_length=0), "path length is 0"),
        (elsewhere(ca=False), "not an authority's"),
        (elsewhere(lasts=datetime.timedelta(days=300)), "must hold for a year"),
        (elsewhere(begins=NOW + 3600), "must hold for a year"),
        (elsewhere(identifier=b""), "lacks what a root must say"),
        (elsewhere(signer=ec.generate_private_key(ec.SECP256R1())), "not a root"),
        (elsewhere(rsa=True), "not an elliptic-curve key"),
        (Made(elsewhere().certificate, elsewhere().key), "not the key of the root certificate"),
        (Made(elsewhere().certificate * 2, Secret(b"")), "holds 2 certificates"),
        (Made(b"nonsense", Secret(b"")), "not a PEM certificate"),
    ],
)
def test_what_cannot_be_a_root_is_refused_with_its_field(made, words):
    with pytest.raises(InvalidArgument, match=words) as refusal:
        given(made)
    assert refusal.value.path.startswith("CAConfig.SigningCA")


def test_a_root_that_openssl_would_not_accept_is_found_out_before_it_is_begun():
    new = given(elsewhere(usage=False))
    with pytest.raises(InvalidArgument, match="could not trust each other"):
        rehearse(sample(OLD), sample(new), cross_sign(OLD, new.cert_pem, NOW))


def test_line_ends_of_a_given_root_do_not_matter():
    made = elsewhere()
    assert given_root(made.certificate.replace(b"\n", b"\r\n"), made.key, NOW).cert_pem == made.certificate
