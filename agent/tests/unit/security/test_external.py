# SPDX-License-Identifier: GPL-3.0-or-later
"""What an authority outside of the cluster signed is what was asked for, or is refused with the reason."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cfssl import Policy, make_root, sign
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from covey.control import cfssl
from covey.daemon.clock import SystemClock
from covey.model.errors import NotSigned
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security import ca, external, keys
from covey.security.ca import RootCA
from covey.security.external import Leaf
from covey.security.identity import assemble
from covey.security.rotation import Sample, cross_sign, rehearse, try_out

NOW = SystemClock().now()
ROOT, OTHER = make_root(), make_root("Another")
KEY = keys.new_key()
MANAGER = Leaf(keys.make_csr(KEY), to_id(3), Role.MANAGER, to_id(2))
WORKER = Leaf(MANAGER.csr, to_id(3), Role.WORKER, to_id(2))


def body(wanted: Leaf = MANAGER) -> dict:
    return json.loads(cfssl.leaf_request(wanted))


def check(signed: bytes, wanted: Leaf = MANAGER) -> bytes:
    return external.check_leaf(signed, ROOT.pem, wanted, NOW)


@pytest.mark.parametrize("wanted", [MANAGER, WORKER])
def test_what_was_asked_for_makes_an_identity(wanted):
    who = assemble(check(sign(ROOT, body(wanted), Policy()), wanted), KEY, ROOT.pem)
    assert (who.node_id, who.cluster_id, who.role) == (wanted.node_id, wanted.cluster_id, wanted.role)


def test_nodes_with_such_certificates_accept_each_other():
    try_out(Sample(ROOT.pem, check(sign(ROOT, body(), Policy())), KEY))


def test_what_follows_the_certificate_is_left_out():
    signed = sign(ROOT, body(), Policy())
    assert check(signed + ROOT.pem) == check(signed)


def test_one_whose_extensions_cannot_be_read_is_refused():
    """The root's own signature does not make it readable."""
    key = serialization.load_pem_private_key(KEY.reveal(), None)
    builder = x509.CertificateBuilder().subject_name(ROOT.certificate.subject).issuer_name(ROOT.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(ROOT.certificate.not_valid_before_utc)
    builder = builder.not_valid_after(ROOT.certificate.not_valid_after_utc)
    garbled = x509.UnrecognizedExtension(x509.AuthorityKeyIdentifier.oid, b"garbled")
    signed = builder.add_extension(garbled, critical=False).sign(ROOT.key, hashes.SHA256())
    with pytest.raises(NotSigned, match="cannot be read"):
        check(signed.public_bytes(serialization.Encoding.PEM))


SUBJECT = body()["subject"]


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (lambda: sign(OTHER, body(), Policy()), "signed by CN=Another, and not by the key of the root CN=Example"),
        (lambda: sign(ROOT, {**body(), **another_key()}, Policy()), "for another key"),
        (lambda: sign(ROOT, body(WORKER), Policy()), "says CN .* OU swarm-worker.* asked for .* OU swarm-manager"),
        (lambda: sign(ROOT, {**body(), "subject": {**SUBJECT, "CN": to_id(4)}}, Policy()), f"says CN {to_id(4)}"),
        (lambda: sign(ROOT, {**body(), "subject": named(O=to_id(9))}, Policy()), f"O {to_id(9)}; asked"),
        (lambda: sign(ROOT, {**body(), "subject": named(OU="swarm-queen")}, Policy()), "neither swarm-manager nor"),
        (lambda: sign(ROOT, {**body(), "hosts": ["swarm-manager"]}, Policy()), "DNS names are swarm-manager; asked"),
        (lambda: sign(ROOT, {**body(), "hosts": []}, Policy()), "DNS names are none"),
        (lambda: sign(ROOT, body(), Policy(authority=True)), "an authority's own"),
        (lambda: sign(ROOT, body(), Policy(uses=(ExtendedKeyUsageOID.SERVER_AUTH,))), "lacks .* clientAuth: nodes"),
        (lambda: sign(ROOT, body(), Policy(lifetime=timedelta(minutes=10))), "must hold now and for 0:30:00"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "not a PEM certificate"),
        (lambda: b"", "not a PEM certificate"),
        (lambda: b"x" * 100_000, "larger than"),
    ],
)
def test_anything_else_is_refused_with_the_reason(signed, words):
    with pytest.raises(NotSigned, match=words):
        check(signed())


def test_a_worker_is_not_given_a_manager_s_name():
    """Whoever has that name can pose as a manager to those who dial."""
    hosts = [*WORKER.hosts, "swarm-manager"]
    with pytest.raises(NotSigned, match="DNS names are"):
        check(sign(ROOT, {**body(WORKER), "hosts": hosts}, Policy()), WORKER)


def another_key() -> dict:
    return {"certificate_request": keys.make_csr(keys.new_key()).decode()}


def named(**changes) -> dict:
    return {**SUBJECT, "names": [{**SUBJECT["names"][0], **changes}]}


# -- one root vouches for another

NEW = ca.create_root(NOW)


def cross_body() -> dict:
    return json.loads(cfssl.cross_request(external.root_request(NEW)))


def test_a_cross_certificate_from_outside_serves_as_our_own_would():
    cross = external.check_cross(sign(ROOT, cross_body(), Policy()), ROOT.pem, NEW.cert_pem)
    old = Sample(ROOT.pem, check(sign(ROOT, body(), Policy())), KEY)
    leaf = ca.sign(NEW, MANAGER.csr, MANAGER.node_id, MANAGER.role, MANAGER.cluster_id, NOW, 7200.0)
    rehearse(old, Sample(NEW.cert_pem, leaf, KEY), cross)


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (lambda: sign(OTHER, cross_body(), Policy()), "signed by CN=Another"),
        (lambda: sign(ROOT, {**cross_body(), "profile": ""}, Policy()), "CA:FALSE"),
        (lambda: sign(ROOT, {**cross_body(), **another_key()}, Policy()), "not for the new root's name and key"),
        (lambda: cross_sign(NEW, ca.create_root(NOW).cert_pem, NOW), "not for the new root's name and key"),
    ],
)
def test_what_is_no_cross_certificate_is_refused(signed, words):
    with pytest.raises(NotSigned, match=words):
        external.check_cross(signed(), ROOT.pem, NEW.cert_pem)


def test_a_root_s_request_is_for_its_own_name_and_key():
    root = RootCA(ROOT.pem, NEW.key_pem)
    assert json.loads(cfssl.cross_request(external.root_request(root)))["profile"] == "CA"
