# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs for which root, which authority is asked when, and what is said when none signs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cfssl import Policy, Root, make_root, sign, succeeded

from covey.control import cfssl
from covey.control.authority import begin_rotation, issuing
from covey.control.cluster import TokenSecrets
from covey.control.issuer import PATIENCE, PAUSES, Issuer
from covey.daemon.clock import SystemClock
from covey.model.errors import FailedPrecondition, InvalidArgument, NotSigned, Unavailable
from covey.model.ids import to_id
from covey.model.objects import Cluster, Node
from covey.model.secret import Secret
from covey.model.spec import CAConfig, ClusterSpec, ExternalCA, Role
from covey.security import ca, keys
from covey.security.ca import RootCA
from covey.security.certificate import is_issued_by, read_certificate, read_certificates

ROOT = make_root()
OWN = ca.create_root(SystemClock().now())
NODE = Node(id=to_id(3), role=Role.WORKER)
CSR = keys.make_csr(keys.new_key())
SECRETS = TokenSecrets(Secret(b"w" * 16), Secret(b"m" * 16))
A, B = "https://a/sign", "https://b/sign"

Answer = Callable[[bytes], tuple[int, bytes]]


@dataclass
class Outside:
    """Authorities by URL, each of which answers or raises; there is none elsewhere."""

    answers: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)

    async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]:
        assert root
        self.asked.append(url)
        self.bodies.append(json.loads(body))
        return self.answers[url](body)


def signs(root: Root = ROOT, policy: Policy | None = None) -> Answer:
    return lambda body: (
        200, json.dumps(succeeded(sign(root, json.loads(body), policy or Policy()))).encode()
    )  # fmt: skip


def says(status: int, body: object) -> Answer:
    return lambda _: (status, body if isinstance(body, bytes) else json.dumps(body).encode())


def down(_: bytes) -> tuple[int, bytes]:
    raise Unavailable("it does not answer: refused")


def cluster(*urls: str, root: RootCA | None = None, stands_for: bytes = ROOT.pem) -> Cluster:
    """One whose root's key is outside, unless it is said to be here."""
    declared = [ExternalCA(url=url, ca_cert=stands_for.decode()) for url in urls]
    root = root or RootCA(ROOT.pem, Secret(b""))
    spec = ClusterSpec(ca_config=CAConfig(external_cas=declared))
    return Cluster(id=to_id(2), spec=spec, root_certificate=root.cert_pem, root_key=root.key_pem)


def issuer(**answers: Answer) -> tuple[Issuer, Outside]:
    outside = Outside({{"a": A, "b": B}[name]: answer for name, answer in answers.items()})
    return Issuer(outside, SystemClock()), outside


def issued_by(certificate: bytes, root: bytes) -> bool:
    return is_issued_by(read_certificates(certificate)[0], read_certificate(root))


async def test_the_request_is_as_the_peer_s():
    made, outside = issuer(a=signs())
    await made.certify(cluster(A), NODE, CSR)
    assert outside.bodies == [
        {
            "certificate_request": CSR.decode(),
            "hosts": ["swarm-worker", NODE.id],
            "subject": {"CN": NODE.id, "names": [{"O": to_id(2), "OU": "swarm-worker"}]},
        }
    ]


async def test_who_has_a_key_and_nobody_outside_signs_by_itself():
    made, outside = issuer()
    assert issued_by(await made.certify(cluster(root=OWN), NODE, CSR), OWN.cert_pem)
    assert outside.asked == []


async def test_an_authority_for_another_root_is_not_asked():
    made, outside = issuer(a=signs())
    assert issued_by(await made.certify(cluster(A, root=OWN), NODE, CSR), OWN.cert_pem)
    assert outside.asked == []


async def test_one_for_the_present_root_signs_though_the_key_is_here():
    made, outside = issuer(a=signs())
    both = RootCA(ROOT.pem, Secret(ROOT.key_pem))
    assert issued_by(await made.certify(cluster(A, root=both), NODE, CSR), ROOT.pem)
    assert outside.asked == [A]


@pytest.mark.parametrize(
    "first",
    [down, says(500, b"oops"), says(400, {"success": False}), signs(make_root("Another")), says(200, b"<html>")],
)
async def test_the_next_one_is_asked_where_one_fails(first):
    made, outside = issuer(a=first, b=signs())
    assert issued_by(await made.certify(cluster(A, B), NODE, CSR), ROOT.pem)
    assert outside.asked == [A, B]


async def test_one_that_is_down_is_asked_again_for_a_while():
    answers = iter([down, says(503, b""), signs()])
    made, outside = issuer(a=lambda body: next(answers)(body))
    began = asyncio.get_running_loop().time()
    assert issued_by(await made.certify(cluster(A), NODE, CSR), ROOT.pem)
    assert outside.asked == [A] * 3
    assert asyncio.get_running_loop().time() - began == PAUSES[0] + PAUSES[1]


async def test_when_none_signs_it_is_told_which_one_said_what():
    refused = {"success": False, "errors": [{"code": 5100, "message": "policy violation"}]}
    made, outside = issuer(a=down, b=says(400, refused))
    with pytest.raises(NotSigned) as failure:
        await made.certify(cluster(A, B), NODE, CSR)
    assert f"{A}: it does not answer: refused; {B}: it refuses with HTTP 400: policy violation" in str(failure.value)
    assert outside.asked == [A, B] * (len(PAUSES) + 1)


async def test_a_refusal_is_not_repeated():
    made, outside = issuer(a=says(200, {"success": False, "errors": [{"message": "no"}]}))
    with pytest.raises(NotSigned, match="it refuses: no"):
        await made.certify(cluster(A), NODE, CSR)
    assert outside.asked == [A]


async def test_patience_ends():
    class Silent:
        async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]:
            await asyncio.sleep(5)
            raise Unavailable("it does not answer within 5 s")

    began = asyncio.get_running_loop().time()
    with pytest.raises(NotSigned, match=f"{A}: it does not answer within 5 s; {B}: it does not"):
        await Issuer(Silent(), SystemClock()).certify(cluster(A, B), NODE, CSR)
    assert asyncio.get_running_loop().time() - began == PATIENCE


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not what CFSSL answers"),
        (b"[]", "not what CFSSL answers"),
        (b'{"success": "perhaps"}', "not what CFSSL answers"),
        (b'{"success": true}', "without a certificate"),
        (b'{"success": true, "result": {}}', "without a certificate"),
        (b'{"success": true, "result": {"certificate": ""}}', "without a certificate"),
        (b'{"success": false, "errors": [{"code": 1, "message": "why"}], "messages": []}', "it refuses: why"),
    ],
)
def test_what_is_no_certificate_is_told(body, words):
    with pytest.raises(NotSigned, match=words):
        cfssl.certificate_in(200, body)


def test_an_authority_s_words_are_bounded():
    body = json.dumps({"success": False, "errors": [{"message": "x" * 10_000}]}).encode()
    with pytest.raises(NotSigned) as failure:
        cfssl.certificate_in(403, body)
    assert len(str(failure.value)) < 400


async def test_what_proves_no_key_is_not_sent():
    made, outside = issuer(a=signs())
    with pytest.raises(InvalidArgument, match="CSR"):
        await made.certify(cluster(A), NODE, b"nonsense")
    assert outside.asked == []


async def test_without_key_and_authority_it_is_told_what_is_missing():
    made, _ = issuer()
    with pytest.raises(FailedPrecondition, match="docker swarm update --external-ca"):
        await made.certify(cluster(), NODE, CSR)


async def test_an_authority_is_tried_out_before_it_counts():
    made, _ = issuer(a=signs())
    await made.try_out(cluster(A))
    made, _ = issuer(a=signs(make_root("Another")))
    with pytest.raises(NotSigned, match="signed by CN=Another"):
        await made.try_out(cluster(A))


# -- another root


async def test_to_a_root_whose_key_is_outside():
    made, outside = issuer(a=signs())
    begun = await made.begin_rotation(cluster(A, root=OWN), RootCA(ROOT.pem, Secret(b"")), SECRETS)
    assert (begun.rotation.certificate, begun.rotation.key.reveal()) == (ROOT.pem, b"")
    assert outside.asked == [A], "for a sample"
    leaf, cross = read_certificates(await made.certify(begun, NODE, CSR))
    assert is_issued_by(leaf, read_certificate(ROOT.pem))
    assert is_issued_by(cross, read_certificate(OWN.cert_pem))
    assert issuing(begun).trusted == OWN.cert_pem + ROOT.pem


async def test_back_to_a_root_of_its_own_the_authority_vouches_for_it():
    made, outside = issuer(a=signs())
    begun = await made.begin_rotation(cluster(A), OWN, SECRETS)
    assert [body.get("profile") for body in outside.bodies] == ["CA", None]
    leaf, cross = read_certificates(await made.certify(begun, NODE, CSR))
    assert is_issued_by(leaf, read_certificate(OWN.cert_pem))
    assert is_issued_by(cross, read_certificate(ROOT.pem))


async def test_one_that_will_not_vouch_is_told_by_its_url():
    made, _ = issuer(a=says(400, {"success": False, "errors": [{"message": "no such profile"}]}))
    with pytest.raises(NotSigned, match=f"{A}: it refuses with HTTP 400: no such profile"):
        await made.begin_rotation(cluster(A), OWN, SECRETS)


async def test_from_one_outside_to_another_there_is_no_way():
    other = make_root("Another")
    made, outside = issuer(a=signs())
    with pytest.raises(InvalidArgument, match="neither the key of its present root nor of this one"):
        await made.begin_rotation(cluster(A), RootCA(other.pem, Secret(b"")), SECRETS)
    assert outside.asked == []


async def test_a_rotation_to_an_authority_that_is_down_does_not_begin():
    made, _ = issuer(a=down)
    with pytest.raises(NotSigned, match="it does not answer"):
        await made.begin_rotation(cluster(A, root=OWN), RootCA(ROOT.pem, Secret(b"")), SECRETS)


async def test_the_way_back_from_a_rotation_to_outside():
    made, _ = issuer(a=signs())
    halfway = begin_rotation(
        cluster(A, root=OWN), RootCA(ROOT.pem, Secret(b"")), b"", SECRETS, SystemClock().now()
    )  # fmt: skip
    back = await made.begin_rotation(halfway, OWN, SECRETS)
    assert back.rotation.certificate == OWN.cert_pem
    assert back.rotation.cross_certificate == b""
