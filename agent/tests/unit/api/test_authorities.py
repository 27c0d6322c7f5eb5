# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities outside of the cluster, as the docker client declares, shows and rotates to them."""

from __future__ import annotations

import json

import pytest
from apis import ROOT, Client, Clock, FakeEngine, FakeLife, Swarm
from cfssl import Policy, make_root, root_of, sign, succeeded

from covey.api.router import ControlApi
from covey.control.issuer import Issuer
from covey.daemon.clock import SystemClock
from covey.model.errors import Unavailable
from covey.security.ca import create_root

OUTSIDE = make_root()
URL, OTHER = "https://ca.example.com:8888/api/v1/cfssl/sign", "https://ca2.example.com/sign"


class Outside:
    """One at ``URL``, which signs with whichever key ``root`` has; nothing is elsewhere."""

    def __init__(self) -> None:
        self.root, self.asked = OUTSIDE, 0

    async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]:
        if url != URL or root != self.root.pem:
            raise Unavailable("it does not answer")
        self.asked += 1
        return 200, json.dumps(succeeded(sign(self.root, json.loads(body), Policy()))).encode()


@pytest.fixture
def outside(swarm: Swarm) -> Outside:
    outside = Outside()
    swarm.managing.issuer = Issuer(outside, SystemClock())
    return outside


async def update(client: Client, **ca_config):
    """As the docker client does: the spec that it was shown, with changes."""
    shown = (await client.get("/swarm")).json
    spec = {**shown["Spec"], "CAConfig": {**shown["Spec"]["CAConfig"], **ca_config}}
    return await client.post(f"/swarm/update?version={shown['Version']['Index']}", spec)


def named(url: str = URL, **fields) -> dict:
    """As ``--external-ca protocol=cfssl,url=URL`` becomes."""
    return {"Protocol": "cfssl", "URL": url, "Options": {}, **fields}


async def test_one_for_the_present_root_is_kept_with_that_root_and_shown(client: Client, swarm: Swarm, outside):
    outside.root = root_of(ROOT)
    assert (await update(client, ExternalCAs=[named(CACert="")])).status == 200
    kept = [{"Protocol": "cfssl", "URL": URL, "CACert": ROOT.cert_pem.decode()}]
    for url in ("/swarm", "/info"):
        shown = (await client.get(url)).json
        spec = shown["Spec"] if url == "/swarm" else shown["Swarm"]["Cluster"]["Spec"]
        assert spec["CAConfig"]["ExternalCAs"] == kept
    assert outside.asked == 1
    assert (await update(client, NodeCertExpiry=0)).status == 200
    assert outside.asked == 1, "it is tried out when it is new"


async def test_one_that_does_not_sign_changes_nothing(client: Client, swarm: Swarm, outside):
    before = swarm.store.view().cluster
    answer = await update(client, ExternalCAs=[named(OTHER)])
    assert (answer.status, f"{OTHER}: it does not answer" in answer.message) == (503, True)
    assert swarm.store.view().cluster == before


async def test_one_for_another_root_waits_for_it(client: Client, outside):
    assert (await update(client, ExternalCAs=[named(OTHER, CACert=OUTSIDE.pem.decode())])).status == 200
    assert outside.asked == 0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": "http://ca.example.com/sign"}, "[0].URL: 'http://ca.example.com/sign' is not the https:// URL"),
        ({"url": ""}, "[0].URL: '' is not the https:// URL"),
        ({"url": "https://[::1/sign"}, "[0].URL: it is no URL"),
        ({"url": "https://me:secret@ca/sign"}, "[0].URL: no name or password belongs into it"),
        ({"CACert": "nonsense"}, "[0].CACert: the root certificate is not a PEM certificate"),
        ({"CACert": OUTSIDE.pem.decode() * 2}, "[0].CACert: the root certificate holds 2"),
        ({"Protocol": "acme"}, "[0].Protocol: Invalid enum value 'acme'; it is one of cfssl"),
        ({"Options": {"label": "x"}}, '[0].Options: {"label":"x"} is not supported'),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_its_path(client: Client, outside, fields, text):
    answer = await update(client, ExternalCAs=[named(**fields)])
    assert answer.status == 400
    assert answer.message.startswith(f"CAConfig.ExternalCAs{text}")
    assert "secret" not in answer.message


async def test_a_cluster_is_not_founded_with_one_for_its_own_root(outside):
    life = FakeLife()
    outsider = Client(ControlApi(life, FakeEngine(), Clock()))
    answer = await outsider.post("/swarm/init", {"Spec": {"CAConfig": {"ExternalCAs": [named()]}}})
    assert (answer.status, "docker swarm ca --rotate" in answer.message) == (400, True)
    named_for_later = named(CACert=OUTSIDE.pem.decode())
    assert (
        await outsider.post("/swarm/init", {"Spec": {"CAConfig": {"ExternalCAs": [named_for_later]}}})
    ).status == 200
    (request,) = life.asked
    assert request.spec.ca_config.external_cas[0].url == URL


# -- docker swarm ca --rotate --ca-cert FILE --external-ca ...


def wish(*urls: str) -> dict:
    pem = OUTSIDE.pem.decode()
    return {"SigningCACert": pem, "SigningCAKey": "", "ExternalCAs": [named(url, CACert=pem) for url in urls]}


async def test_rotating_to_it_leaves_the_cluster_without_a_key(client: Client, swarm: Swarm, outside):
    assert (await update(client, **wish(OTHER, URL))).status == 200
    turning = swarm.store.view().cluster.rotation
    assert (turning.certificate, turning.key.reveal()) == (OUTSIDE.pem, b"")
    assert (await client.get("/swarm")).json["RootRotationInProgress"] is True


async def test_rotating_needs_one_that_signs_for_that_root(client: Client, swarm: Swarm, outside):
    before = swarm.store.view().cluster
    assert (await update(client, **wish(OTHER))).status == 503
    answer = await update(client, **{**wish(URL), "ExternalCAs": [named()]})
    assert (answer.status, "CAConfig.SigningCAKey: a root needs its key" in answer.message) == (400, True)
    assert swarm.store.view().cluster == before


async def test_the_only_one_that_can_sign_stays(client: Client, swarm: Swarm, outside):
    await update(client, **wish(URL))
    answer = await update(client, ExternalCAs=[])
    assert (answer.status, "does not have the key of its root" in answer.message) == (400, True)
    assert (await update(client, NodeCertExpiry=7200 * 10**9)).status == 200


async def test_the_key_of_a_root_may_be_given_later_and_forgotten_again(client: Client, swarm: Swarm, outside):
    await update(client, **wish(URL))
    key = OUTSIDE.key_pem
    assert (await update(client, **{**wish(), "SigningCAKey": key.decode()})).status == 200
    assert swarm.store.view().cluster.rotation.key.reveal() == key
    assert "PRIVATE" not in (await client.get("/swarm")).text
    assert (await update(client, **wish(URL))).status == 200
    assert swarm.store.view().cluster.rotation.key.reveal() == b""
    assert swarm.store.view().cluster.rotation.certificate == OUTSIDE.pem


async def test_a_new_root_takes_its_place_by_its_own_word(client: Client, swarm: Swarm, outside):
    outside.root = root_of(ROOT)
    assert (await update(client, ExternalCAs=[named()])).status == 200
    assert (await update(client, SigningCACert=ROOT.cert_pem.decode())).status == 200
    assert swarm.store.view().cluster.root_key.reveal() == b""
    assert (await update(client, ForceRotate=1)).status == 200
    turning = swarm.store.view().cluster.rotation
    assert turning.key.reveal()
    assert turning.cross_certificate
    given = create_root(swarm.clock.now())
    pem = given.cert_pem.decode()
    answer = await update(client, SigningCACert=pem, ExternalCAs=[named(), named(OTHER, CACert=pem)])
    assert (answer.status, "neither the key of its present root" in answer.message) == (400, True)
