# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes: shapes, and the rules that keep the managers' majority."""

from __future__ import annotations

import base64

import pytest
from apis import ISSUER, ROOT, Client, Swarm, at_once
from builders import node

from covey.model.changes import Delete, ObserveNode
from covey.model.objects import NodeState, NodeStatus
from covey.model.spec import NodeSpec, Role


async def update(client: Client, name: str, **changes):
    shown = (await client.get(f"/nodes/{name}")).json
    spec = {**shown["Spec"], **changes}
    return await client.post(f"/nodes/{shown['ID']}/update?version={shown['Version']['Index']}", spec)


def down(swarm: Swarm, node_id: str) -> None:
    swarm.world.hosts[node_id].linked = False
    status = NodeStatus(state=NodeState.DOWN, message="heartbeat failure", since=swarm.world.now)
    swarm.world.commit(ObserveNode(node_id, status))
    swarm.store.silence(node_id)


def add_managers(swarm: Swarm, *ids: str) -> None:
    for id_ in ids:
        manager = node(id_, role="manager", address=f"10.1.0.{id_[1:]}", manager_address=f"10.1.0.{id_[1:]}:2377")
        swarm.add(manager, NodeSpec(role=Role.MANAGER))
        at_once(swarm.store.add_member(id_, f"10.1.0.{id_[1:]}:2378", 1.0))


async def test_a_manager_as_the_peer_shows_it(client: Client):
    shown = (await client.get("/nodes/n1")).json
    assert shown["Spec"] == {"Labels": {}, "Role": "manager", "Availability": "active"}
    assert shown["Description"]["Platform"] == {"Architecture": "x86_64", "OS": "linux"}
    assert shown["Description"]["TLSInfo"] == {
        "TrustRoot": ROOT.cert_pem.decode(),
        "CertIssuerSubject": base64.b64encode(ISSUER.subject).decode(),
        "CertIssuerPublicKey": base64.b64encode(ISSUER.public_key).decode(),
    }
    assert shown["Status"] == {"State": "ready", "Addr": "10.0.0.1"}
    assert shown["ManagerStatus"] == {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}


async def test_a_worker_has_no_manager_status(client: Client):
    shown = (await client.get("/nodes/n2-host")).json
    assert shown["ID"] == "n2"
    assert "ManagerStatus" not in shown


async def test_a_manager_whose_store_does_not_answer_is_unreachable_though_its_worker_is_ready(swarm: Swarm):
    add_managers(swarm, "n7")
    swarm.store.silence("n7")
    shown = (await swarm.client.get("/nodes/n7")).json
    assert shown["ManagerStatus"]["Reachability"] == "unreachable"
    assert shown["Status"]["State"] == "ready"


async def test_who_answers_is_not_known_to_a_manager_that_does_not_lead(swarm: Swarm):
    swarm.store.depose()
    shown = (await swarm.client.get("/nodes/n1?consistency=stale")).json
    assert shown["ManagerStatus"]["Reachability"] == "unknown"


async def test_a_manager_that_is_down_is_unreachable(swarm: Swarm):
    add_managers(swarm, "n7")
    down(swarm, "n7")
    shown = (await swarm.client.get("/nodes/n7")).json
    assert shown["ManagerStatus"] == {"Reachability": "unreachable", "Addr": "10.1.0.7:2377"}
    assert shown["Status"] == {"State": "down", "Message": "heartbeat failure"}


async def test_labels_and_availability(client: Client):
    assert (await update(client, "n2", Labels={"a": "b"}, Availability="drain")).status == 200
    shown = (await client.get("/nodes/n2")).json["Spec"]
    assert shown == {"Labels": {"a": "b"}, "Role": "worker", "Availability": "drain"}


async def test_an_update_from_an_old_version_is_out_of_sequence(client: Client):
    body = {"Role": "worker", "Availability": "active"}
    answer = await client.post("/nodes/n2/update?version=1", body)
    assert answer.status == 409
    assert "update out of sequence" in answer.message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Availability": "active"}, 'invalid Role: ""'),
        ({"Role": "", "Availability": "active"}, 'invalid Role: ""'),
        ({"Role": "worker"}, 'invalid Availability: ""'),
        ({"Role": "king", "Availability": "active"}, "worker, manager"),
        ({"Role": "worker", "Availability": "active", "Label": {}}, "did you mean Labels?"),
    ],
)
async def test_a_nodes_spec_must_be_whole(client: Client, body, text):
    version = (await client.get("/nodes/n2")).json["Version"]["Index"]
    answer = await client.post(f"/nodes/n2/update?version={version}", body)
    assert answer.status == 400
    assert text in answer.message


async def test_the_last_manager_stays_one(client: Client):
    answer = await update(client, "n1", Role="worker")
    assert answer.status == 400
    assert "attempting to demote the last manager of the swarm" in answer.message


async def test_a_manager_is_not_demoted_if_the_rest_has_no_majority(swarm: Swarm):
    add_managers(swarm, "n7", "n8")
    down(swarm, "n8")
    answer = await update(swarm.client, "n7", Role="worker")
    assert answer.status == 400
    assert "this would result in a loss of quorum" in answer.message
    assert (await update(swarm.client, "n8", Role="worker")).status == 200


async def test_one_of_three_managers_can_be_demoted(swarm: Swarm):
    add_managers(swarm, "n7", "n8")
    assert (await update(swarm.client, "n7", Role="worker")).status == 200
    assert (await swarm.client.get("/nodes/n7")).json["Spec"]["Role"] == "worker"


async def test_a_manager_cannot_be_removed(swarm: Swarm):
    add_managers(swarm, "n7")
    answer = await swarm.client.delete("/nodes/n7?force=true")
    assert answer.status == 400
    assert (
        "node n7 is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal" in answer.message
    )


async def test_a_node_that_answers_is_removed_by_force_only(client: Client):
    answer = await client.delete("/nodes/n3")
    assert answer.status == 400
    assert "is not down and can't be removed" in answer.message
    answer = await client.delete("/nodes/n3?force=1")
    assert (answer.status, answer.text) == (200, "")
    assert (await client.get("/nodes/n3")).status == 404


async def test_a_node_that_is_down_is_removed(swarm: Swarm):
    down(swarm, "n3")
    assert (await swarm.client.delete("/nodes/n3-host")).status == 200


async def test_a_manager_without_a_vote_can_be_demoted_whatever_the_majority(swarm: Swarm):
    add_managers(swarm, "n7", "n8")
    down(swarm, "n8")
    swarm.add(node("n9", role="manager", address="10.1.0.9"), NodeSpec(role=Role.MANAGER))
    down(swarm, "n7")
    assert (await update(swarm.client, "n9", Role="worker")).status == 200


async def test_a_node_that_still_votes_cannot_be_removed(swarm: Swarm):
    swarm.add(node("n9", address="10.1.0.9", manager_address="10.1.0.9:2377"), NodeSpec(role=Role.WORKER))
    answer = await swarm.client.delete("/nodes/n9?force=true")
    assert answer.status == 400
    assert "must be demoted" in answer.message


async def test_a_repeated_demotion_is_not_judged_twice(swarm: Swarm):
    add_managers(swarm, "n7")
    shown = (await swarm.client.get("/nodes/n7")).json
    url, spec = f"/nodes/n7/update?version={shown['Version']['Index']}", {**shown["Spec"], "Role": "worker"}
    assert (await swarm.client.post(url, spec, X_Covey_Request_Id="r1")).status == 200
    swarm.world.commit(Delete("node", "n1", swarm.store.view().nodes["n1"].version))
    assert (await swarm.client.post(url, spec, X_Covey_Request_Id="r1")).status == 200
    assert (await swarm.client.post(url, spec, X_Covey_Request_Id="r2")).status == 409


async def test_a_repeated_removal_finds_it_done(client: Client):
    for _ in range(2):
        assert (await client.delete("/nodes/n3?force=1", X_Covey_Request_Id="r1")).status == 200
