# SPDX-License-Identifier: GPL-3.0-or-later
"""/swarm: founding, joining, leaving, the cluster's spec and its tokens."""

from __future__ import annotations

import pytest
from apis import Client, Clock, FakeEngine, FakeLife, Swarm

from covey.api.bodies import InitRequest, JoinRequest
from covey.api.ports import LocalState, NodeReport
from covey.api.router import ControlApi
from covey.model.spec import Availability, ClusterSpec, Orchestration, Role


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
    assert shown["ID"] == "c1"
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
        ({"EncryptionConfig": {"AutoLockManagers": True}}, 400, "locking managers is not built yet"),
    ],
)
async def test_a_cluster_that_cannot_be(client: Client, spec, status, text):
    version = (await client.get("/swarm")).json["Version"]["Index"]
    answer = await client.post(f"/swarm/update?version={version}", spec)
    assert answer.status == status
    assert text in answer.message


async def test_there_is_no_unlock_key_to_rotate(client: Client):
    version = (await client.get("/swarm")).json["Version"]["Index"]
    assert (await client.post(f"/swarm/update?version={version}&rotateManagerUnlockKey=true", {})).status == 501
    assert (await client.get("/swarm/unlockkey")).status == 501
