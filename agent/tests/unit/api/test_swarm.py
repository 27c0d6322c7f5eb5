# SPDX-License-Identifier: GPL-3.0-or-later
"""/swarm: founding, joining, leaving, the cluster's spec and its tokens."""

from __future__ import annotations

import msgspec
import pytest
from apis import CLUSTER, ROOT, Client, Clock, FakeEngine, FakeLife, Swarm
from builders import view

from covey.api.bodies import InitRequest, JoinRequest
from covey.api.ports import LocalState, NodeReport
from covey.api.rotate import warnings
from covey.api.router import ControlApi
from covey.model.changes import ObserveNode
from covey.model.objects import Cluster, NodeState, NodeTLS
from covey.model.spec import Availability, ClusterSpec, Orchestration, Role
from covey.model.units import SECOND
from covey.security.ca import create_root
from covey.security.certificate import read_certificate
from covey.security.unlock import show


@pytest.fixture
def life() -> FakeLife:
    return FakeLife()


@pytest.fixture
def outsider(life: FakeLife) -> Client:
    return Client(ControlApi(life, FakeEngine(), Clock()))


async def test_init_answers_with_the_node_id(life: FakeLife, outsider: Client):
    body = {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "10.0.0.1", "Spec": {"Orchestration": {}}}
    answer = await outsider.post("/swarm/init", body)
    assert (answer.status, answer.json) == (200, "founder")
    spec = ClusterSpec(orchestration=Orchestration())
    assert life.asked == [InitRequest(listen_addr="0.0.0.0:2377", advertise_addr="10.0.0.1", spec=spec)]


async def test_join_hands_the_token_on(life: FakeLife, outsider: Client):
    body = {"RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": "SWMTKN-1-a-b", "Availability": "drain"}
    assert (await outsider.post("/swarm/join", body)).status == 200
    (request,) = life.asked
    assert isinstance(request, JoinRequest)
    assert request.token.reveal() == b"SWMTKN-1-a-b"
    assert request.remote_addrs == ("10.0.0.1:2377",)
    assert request.availability is Availability.DRAIN
    assert "SWMTKN" not in repr(life.asked)


@pytest.mark.parametrize(
    ("body", "field"),
    [({"JoinToken": "x"}, "RemoteAddrs"), ({"RemoteAddrs": ["a:1"]}, "JoinToken")],
)
async def test_join_needs_address_and_token(outsider: Client, body, field):
    answer = await outsider.post("/swarm/join", body)
    assert answer.status == 400
    assert answer.message.startswith(f"{field}: ")


async def test_leaving_when_in_no_cluster(outsider: Client):
    answer = await outsider.post("/swarm/leave")
    assert (answer.status, answer.message) == (503, "This node is not part of a swarm")


async def test_a_manager_leaves_by_force_only(swarm: Swarm):
    answer = await swarm.client.post("/swarm/leave")
    assert answer.status == 503
    assert answer.message.startswith(
        "You are attempting to leave the swarm on a node that is participating as a manager."
    )
    assert (await swarm.client.post("/swarm/leave?force=true")).status == 200
    assert swarm.life.asked == [("leave", True)]


async def test_a_worker_leaves(life: FakeLife, outsider: Client):
    life.report = NodeReport(LocalState.ACTIVE, "0.1.0", "n2", "c1", Role.WORKER)
    assert (await outsider.post("/swarm/leave")).status == 200
    assert life.asked == [("leave", False)]


async def test_the_cluster_with_its_tokens(client: Client):
    shown = (await client.get("/swarm")).json
    assert shown["ID"] == CLUSTER
    assert shown["Spec"]["Dispatcher"] == {"HeartbeatPeriod": 2_000_000_000}
    assert set(shown["TLSInfo"]) == {"TrustRoot", "CertIssuerSubject", "CertIssuerPublicKey"}
    assert shown["RootRotationInProgress"] is False
    assert shown["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
    assert shown["JoinTokens"]["Worker"] != shown["JoinTokens"]["Manager"]


async def test_info_shows_no_tokens(client: Client):
    assert "SWMTKN" not in (await client.get("/info")).text


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ("rotateWorkerToken=true", {"Worker"}),
        ("rotateManagerToken=true&rotateWorkerToken=false", {"Manager"}),
        ("rotateWorkerToken=1&rotateManagerToken=1", {"Worker", "Manager"}),
        ("rotateWorkerToken=false", set()),
    ],
)
async def test_tokens_are_rotated_one_by_one(client: Client, query, changed):
    before = (await client.get("/swarm")).json
    answer = await client.post(f"/swarm/update?version={before['Version']['Index']}&{query}", before["Spec"])
    assert (answer.status, answer.text) == (200, "")
    after = (await client.get("/swarm")).json
    assert {role for role, token in after["JoinTokens"].items() if token != before["JoinTokens"][role]} == changed
    assert after["Spec"] == before["Spec"]


async def test_the_spec_is_updated(client: Client):
    before = (await client.get("/swarm")).json
    spec = {**before["Spec"], "Orchestration": {"TaskHistoryRetentionLimit": 3}}
    assert (await client.post(f"/swarm/update?version={before['Version']['Index']}", spec)).status == 200
    assert (await client.get("/info")).json["Swarm"]["Cluster"]["Spec"]["Orchestration"] == {
        "TaskHistoryRetentionLimit": 3
    }
    stale = await client.post(f"/swarm/update?version={before['Version']['Index']}", spec)
    assert stale.status == 409


@pytest.mark.parametrize(
    ("spec", "status", "text"),
    [
        ({"Name": "other"}, 400, "Name: "),
        ({"Dispatcher": {"HeartbeatPeriod": 1000}}, 400, "Dispatcher.HeartbeatPeriod: "),
        ({"CAConfig": {"NodeCertExpiry": 1000}}, 400, "minimum certificate expiry time is 1h"),
        ({"Raft": {"SnapshotInterval": 5}}, 400, "Raft: "),
    ],
)
async def test_a_cluster_that_cannot_be(client: Client, spec, status, text):
    version = (await client.get("/swarm")).json["Version"]["Index"]
    answer = await client.post(f"/swarm/update?version={version}", spec)
    assert answer.status == status
    assert text in answer.message


async def update(client: Client, query: str = "", **changes):
    """Send the spec back, changed, as the docker client does."""
    shown = (await client.get("/swarm")).json
    return await client.post(f"/swarm/update?version={shown['Version']['Index']}&{query}", {**shown["Spec"], **changes})


async def unlock_key(client: Client) -> str:
    return (await client.get("/swarm/unlockkey")).json["UnlockKey"]


LOCK, OPEN = {"EncryptionConfig": {"AutoLockManagers": True}}, {"EncryptionConfig": {"AutoLockManagers": False}}


async def test_locking_makes_a_key_that_stays_until_it_is_rotated(client: Client):
    assert await unlock_key(client) == ""
    assert (await update(client, **LOCK)).status == 200
    first = await unlock_key(client)
    assert first.startswith("SWMKEY-1-")
    assert len(first) == len("SWMKEY-1-") + 43
    assert (await client.get("/swarm")).json["Spec"]["EncryptionConfig"] == {"AutoLockManagers": True}
    await update(client, Orchestration={"TaskHistoryRetentionLimit": 3})
    assert await unlock_key(client) == first
    assert (await update(client, "rotateManagerUnlockKey=true")).status == 200
    second = await unlock_key(client)
    assert second not in ("", first)
    await update(client, **OPEN)
    assert await unlock_key(client) == ""
    await update(client, **LOCK)
    assert await unlock_key(client) not in ("", first, second)


async def test_each_unlock_key_has_a_number_of_its_own(swarm: Swarm):
    for change in (LOCK, OPEN, LOCK):
        await update(swarm.client, **change)
    assert swarm.store.view().cluster.unlock_key_version == 2


async def test_without_a_lock_there_is_no_key_to_rotate(client: Client):
    answer = await update(client, "rotateManagerUnlockKey=true")
    assert (answer.status, await unlock_key(client)) == (400, "")
    assert "autolock is not turned on" in answer.message


async def test_only_the_call_for_it_shows_the_unlock_key(swarm: Swarm):
    await update(swarm.client, **LOCK)
    for url in ("/info", "/swarm", "/covey/v1/status"):
        assert "SWMKEY" not in (await swarm.client.get(url)).text
    assert swarm.store.view().cluster.unlock_key.reveal().hex() not in repr(swarm.store.view().cluster)


@pytest.mark.parametrize("body", [{"AutoLockManagers": True}, {"Spec": LOCK}])
async def test_init_may_lock_from_the_start(life: FakeLife, outsider: Client, body):
    assert (await outsider.post("/swarm/init", body)).status == 200
    assert life.asked[0].spec.auto_lock


@pytest.fixture
def locked(life: FakeLife) -> Client:
    life.report = NodeReport(LocalState.LOCKED, "0.1.0", "n1", "c1", Role.MANAGER)
    return Client(ControlApi(life, FakeEngine(), Clock()))


async def test_a_locked_manager_says_so_and_answers_nothing_of_the_cluster(locked: Client):
    shown = (await locked.get("/info")).json["Swarm"]
    assert (shown["LocalNodeState"], shown["ControlAvailable"]) == ("locked", False)
    assert (await locked.get("/_ping")).headers.get("Swarm") == "locked"
    for url in ("/swarm", "/nodes", "/services", "/swarm/unlockkey"):
        answer = await locked.get(url)
        assert (answer.status, answer.json["code"]) == (503, "Locked")
        assert answer.message == (
            "Swarm is encrypted and needs to be unlocked before it can be used. "
            'Please use "docker swarm unlock" to unlock it.'
        )


async def test_unlocking(life: FakeLife, locked: Client):
    wrong = await locked.post("/swarm/unlock", {"UnlockKey": "SWMKEY-1-" + "A" * 43})
    assert wrong.status == 401
    assert wrong.message.startswith("swarm could not be unlocked: invalid key provided")
    assert life.report.state is LocalState.LOCKED
    for text in ("", "SWMKEY-1-", "SWMKEY-1-short", "SWMKEY-2-" + "A" * 43, "SWMKEY-1-" + "*" * 43):
        answer = await locked.post("/swarm/unlock", {"UnlockKey": text})
        assert (answer.status, text in answer.message and text not in ("", "SWMKEY-1-")) == (400, False)
    assert (await locked.post("/swarm/unlock", {"UnlockKey": show(life.unlock_key)})).status == 200
    assert life.report.state is LocalState.ACTIVE
    again = await locked.post("/swarm/unlock", {"UnlockKey": show(life.unlock_key)})
    assert (again.status, again.message) == (409, "swarm is not locked")


async def test_there_is_nothing_to_unlock_outside_of_a_cluster(outsider: Client):
    answer = await outsider.post("/swarm/unlock", {"UnlockKey": "SWMKEY-1-" + "A" * 43})
    assert answer.status == 503


async def test_a_locked_manager_leaves_by_force_only(life: FakeLife, locked: Client):
    answer = await locked.post("/swarm/leave")
    assert answer.status == 503
    assert answer.message.startswith("Swarm is encrypted and locked. Please unlock it first or use `--force`")
    assert (await locked.post("/swarm/leave?force=true")).status == 200
    assert life.asked == [("leave", True)]


# -- the root


async def rotate(client: Client, **ca_config):
    shown = (await client.get("/swarm")).json
    spec = {**shown["Spec"], "CAConfig": {**shown["Spec"]["CAConfig"], **ca_config}}
    return await client.post(f"/swarm/update?version={shown['Version']['Index']}", spec)


async def test_counting_up_rotates_to_a_new_root_as_the_client_follows_it(client: Client, swarm: Swarm):
    before = (await client.get("/swarm")).json
    assert (await rotate(client, ForceRotate=1)).status == 200
    during = (await client.get("/swarm")).json
    assert during["RootRotationInProgress"] is True
    assert during["TLSInfo"]["TrustRoot"] == before["TLSInfo"]["TrustRoot"]
    assert during["TLSInfo"]["CertIssuerPublicKey"] != before["TLSInfo"]["CertIssuerPublicKey"]
    assert during["JoinTokens"] == before["JoinTokens"]
    assert during["Spec"]["CAConfig"]["ForceRotate"] == 1
    turning = swarm.store.view().cluster.rotation
    moved = NodeTLS(
        trust_root=ROOT.cert_pem + turning.certificate,
        issuer_subject=turning.issuer_subject,
        issuer_public_key=turning.issuer_public_key,
    )
    for node in swarm.store.view().nodes.values():
        description = msgspec.structs.replace(node.description, tls=moved)
        swarm.world.commit(ObserveNode(node.id, description=description))
    swarm.run()
    after = (await client.get("/swarm")).json
    assert after["RootRotationInProgress"] is False
    assert after["TLSInfo"]["TrustRoot"] == turning.certificate.decode()
    assert after["TLSInfo"]["CertIssuerPublicKey"] == during["TLSInfo"]["CertIssuerPublicKey"]
    assert after["JoinTokens"].keys() == before["JoinTokens"].keys()
    assert not set(after["JoinTokens"].values()) & set(before["JoinTokens"].values())


async def test_the_same_number_again_rotates_nothing(client: Client):
    await rotate(client, ForceRotate=1)
    issuer = (await client.get("/swarm")).json["TLSInfo"]["CertIssuerPublicKey"]
    assert (await rotate(client, ForceRotate=1, NodeCertExpiry=7200 * SECOND)).status == 200
    assert (await client.get("/swarm")).json["TLSInfo"]["CertIssuerPublicKey"] == issuer


async def test_a_given_root_is_taken_and_neither_it_nor_its_key_is_kept_in_the_spec(client: Client, swarm: Swarm):
    given = create_root(swarm.clock.now())
    wish = {"SigningCACert": given.cert_pem.decode(), "SigningCAKey": given.key_pem.reveal().decode()}
    assert (await rotate(client, **wish)).status == 200
    assert swarm.store.view().cluster.rotation.certificate == given.cert_pem
    shown = (await client.get("/swarm")).text
    assert "SigningCA" not in shown
    assert "PRIVATE" not in shown + (await client.get("/info")).text
    version = swarm.store.view().cluster.version
    assert (await rotate(client, **wish)).status == 200
    assert swarm.store.view().cluster.rotation.told == ()
    assert swarm.store.view().cluster.version > version


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"SigningCAKey": "KEY"}, "CAConfig.SigningCACert: the root certificate that this key belongs to is missing"),
        ({"SigningCACert": ROOT.cert_pem.decode()}, "CAConfig.SigningCAKey: a root needs its key"),
        ({"SigningCACert": "x", "SigningCAKey": "KEY"}, "CAConfig.SigningCACert: the root certificate is not a PEM"),
        ({"SigningCACert": ROOT.cert_pem.decode(), "SigningCAKey": "KEY"}, "CAConfig.SigningCAKey: the private key"),
    ],
)
async def test_a_root_that_cannot_be_is_refused_and_its_key_not_shown(client: Client, swarm: Swarm, wish, text):
    before = swarm.store.view().cluster
    answer = await rotate(client, **wish)
    assert (answer.status, answer.message.startswith(text)) == (400, True), answer
    assert "KEY" not in answer.message
    assert swarm.store.view().cluster == before


async def test_a_cluster_is_founded_with_a_root_of_its_own(outsider: Client, life: FakeLife):
    spec = {"CAConfig": {"SigningCACert": ROOT.cert_pem.decode(), "SigningCAKey": "KEY"}}
    answer = await outsider.post("/swarm/init", {"Spec": spec})
    assert (answer.status, "docker swarm ca --rotate" in answer.message) == (400, True)
    assert life.asked == []


async def test_how_far_it_is_and_whom_it_waits_for(client: Client, swarm: Swarm):
    assert (await client.get("/covey/v1/rotation")).json == {
        "InProgress": False, "StartedAt": None, "Nodes": 3, "Moved": 3, "Waiting": [],
    }  # fmt: skip
    assert "Warnings" not in (await client.get("/info")).json
    await rotate(client, ForceRotate=1)
    node = swarm.store.view().nodes["n3"]
    swarm.world.hosts["n3"].linked = False
    swarm.world.commit(ObserveNode("n3", status=msgspec.structs.replace(node.status, state=NodeState.DOWN)))
    shown = (await client.get("/covey/v1/rotation")).json
    assert (shown["InProgress"], shown["Nodes"], shown["Moved"]) == (True, 3, 0)
    assert {"ID": "n3", "Hostname": "n3-host", "State": "down"} in shown["Waiting"]
    (warning,) = (await client.get("/info")).json["Warnings"]
    assert "waits for n3-host: bring back what is down, or remove it" in warning


def test_the_end_of_the_root_is_warned_of_in_time():
    known = view(Cluster(id=CLUSTER, root_certificate=ROOT.cert_pem))
    end, day = read_certificate(ROOT.cert_pem).not_valid_after_utc.timestamp(), 86_400.0
    assert warnings(known, end - 91 * day) == []
    (warning,) = warnings(known, end - 89 * day)
    assert "docker swarm ca --rotate" in warning
