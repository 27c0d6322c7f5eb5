# SPDX-License-Identifier: GPL-3.0-or-later
"""What every node answers by itself, whether the engine and the managers answer or not."""

from __future__ import annotations

import pytest
from apis import ADMISSION, CLUSTER, Client, Clock, FakeEngine, FakeLife, Swarm

from covey.api.bodies import CompleteRequest
from covey.api.ports import LocalState, NodeReport
from covey.api.router import ControlApi
from covey.model.admission import ManagerInfo
from covey.model.spec import Role

MANAGERS = (ManagerInfo(node_id="n1", addr="10.0.0.1:2377"), ManagerInfo(node_id="n7", addr="10.0.0.7:2377"))


def worker() -> FakeLife:
    return FakeLife(NodeReport(LocalState.ACTIVE, "0.1.0", "n2", "c1", Role.WORKER, "10.0.0.2", MANAGERS))


def client_of(life: FakeLife, engine: FakeEngine | None = None) -> Client:
    return Client(ControlApi(life, engine or FakeEngine(), Clock()))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_ping_passes_on_the_engines_headers_with_our_swarm(swarm: Swarm, method):
    answer = await swarm.client.call(method, "/_ping")
    assert answer.status == 200
    assert answer.headers.get("Api-Version") == "1.41"
    assert answer.headers.get_all("Swarm") == ("active/manager",)
    assert answer.headers.get("Cache-Control") == "no-cache, no-store, must-revalidate"


@pytest.mark.parametrize(
    ("life", "header"),
    [(worker(), "active/worker"), (FakeLife(), "inactive"), (FakeLife(NodeReport(LocalState.ERROR, "0")), "error")],
)
async def test_pings_swarm_header(life, header):
    assert (await client_of(life).get("/_ping")).headers.get("Swarm") == header


async def test_ping_works_without_the_engine(swarm: Swarm):
    swarm.engine.ping = swarm.engine.ping.replaced("Api-Version", "1.50")
    swarm.engine.down = True
    assert (await swarm.client.get("/_ping")).headers.get("Api-Version") == "1.41"
    swarm.engine.down = False
    assert (await swarm.client.get("/_ping")).headers.get("Api-Version") == "1.50"
    swarm.engine.down = True
    assert (await swarm.client.get("/_ping")).headers.get("Api-Version") == "1.50"


async def test_version_names_both(swarm: Swarm):
    shown = (await swarm.client.get("/version")).json
    assert shown["Version"] == "20.10.24"
    assert {"Name": "Covey", "Version": "0.1.0", "Details": {}} in shown["Components"]
    again = (await swarm.client.get("/version")).json
    assert again == shown


async def test_version_without_the_engine_is_its_last_one(swarm: Swarm):
    await swarm.client.get("/version")
    swarm.engine.down = True
    shown = (await swarm.client.get("/version")).json
    assert shown["Version"] == "20.10.24"
    assert "does not answer" in shown["Components"][-1]["Details"]["Engine"]


async def test_info_is_the_engines_with_our_swarm(swarm: Swarm):
    shown = (await swarm.client.get("/info")).json
    assert shown["Name"] == "host1"
    section = shown["Swarm"]
    assert section["NodeID"] == "n1"
    assert section["LocalNodeState"] == "active"
    assert section["ControlAvailable"] is True
    assert section["RemoteManagers"] == [{"NodeID": "n1", "Addr": "10.0.0.1:2377"}]
    assert (section["Nodes"], section["Managers"]) == (3, 1)
    assert section["Cluster"]["ID"] == CLUSTER


async def test_info_on_a_worker():
    section = (await client_of(worker()).get("/info")).json["Swarm"]
    assert section["ControlAvailable"] is False
    assert [each["Addr"] for each in section["RemoteManagers"]] == ["10.0.0.1:2377", "10.0.0.7:2377"]
    assert "Cluster" not in section


async def test_info_outside_of_any_cluster():
    section = (await client_of(FakeLife()).get("/info")).json["Swarm"]
    assert section == {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    }


async def test_info_without_the_engine(swarm: Swarm):
    swarm.engine.down = True
    shown = (await swarm.client.get("/info")).json
    assert shown["Swarm"]["Nodes"] == 3
    assert "does not answer" in shown["Warnings"][0]


async def test_info_needs_no_leader(swarm: Swarm):
    swarm.store.depose()
    assert (await swarm.client.get("/info")).json["Swarm"]["Nodes"] == 3


async def test_status(swarm: Swarm):
    assert (await swarm.client.get("/covey/v1/status")).json == {
        "Version": "0.1.0",
        "State": "active",
        "NodeID": "n1",
        "ClusterID": CLUSTER,
        "Role": "manager",
        "AdvertiseAddr": "10.0.0.1",
        "Leader": {"NodeID": "n1", "Addr": "10.0.0.1:2377"},
        "Managers": [{"NodeID": "n1", "Addr": "10.0.0.1:2377"}],
        "Raft": {"Term": 1, "Index": 5, "Epoch": 0},
        "Certificate": None,
        "Error": "",
    }
    swarm.store.depose()
    assert (await swarm.client.get("/covey/v1/status")).json["Leader"] is None


async def test_status_outside_of_any_cluster():
    shown = (await client_of(FakeLife()).get("/covey/v1/status")).json
    assert (shown["State"], shown["NodeID"], shown["Role"], shown["Leader"]) == ("inactive", "", "", None)


async def test_a_registry_that_does_not_answer_is_no_reason_to_wait(swarm: Swarm):
    answer = await swarm.client.get("/distribution/registry.lab:5000/a/bb:1/json")
    assert answer.status == 500
    assert "registry.lab:5000/a/bb:1" in answer.message


async def test_networks_of_the_host_are_the_engines(swarm: Swarm):
    answer = await swarm.client.post("/networks/create", {"Name": "n", "Driver": "bridge"})
    assert (answer.status, answer.json) == (201, {"Id": "n1"})
    assert ("POST", "/networks/create") in swarm.engine.seen


@pytest.mark.parametrize("body", [{"Name": "n", "Driver": "overlay"}, {"Name": "n", "Scope": "swarm"}])
async def test_networks_of_the_cluster_are_not_built_yet(swarm: Swarm, body):
    answer = await swarm.client.post("/networks/create", body)
    assert answer.status == 501
    assert swarm.engine.seen == []


@pytest.mark.parametrize("url", ["/services/x/logs", "/tasks/x/logs"])
@pytest.mark.parametrize("life", [worker(), FakeLife()])
async def test_what_is_not_built_yet_says_so_in_our_name(life, url):
    answer = await client_of(life).get(url)
    assert answer.status == 501
    assert "not built yet in this release of Covey" in answer.message


async def test_a_join_without_tokens(swarm: Swarm):
    life = FakeLife()
    joiner = client_of(life)
    asked = await joiner.post("/covey/v1/join/request")
    assert asked.json == {"CSR": "CSR"}
    admitted = await swarm.client.post(
        "/covey/v1/join/admit", {**asked.json, "Role": "worker", "Hostname": "h4", "Labels": {"a": "b"}}
    )
    assert admitted.status == 200
    assert swarm.managing.admitted[0].hostname == "h4"
    completed = await joiner.post("/covey/v1/join/complete", {"Admission": admitted.json, "AdvertiseAddr": "10.0.0.4"})
    assert completed.json == {"NodeID": "new"}
    assert life.asked == [
        ("request_join", ""),
        CompleteRequest(admission=ADMISSION, advertise_addr="10.0.0.4"),
    ]


async def test_a_join_needs_a_manager():
    answer = await client_of(worker()).post("/covey/v1/join/admit", {"CSR": "x"})
    assert answer.status == 503


async def test_a_certificate_is_renewed_on_request_and_its_end_is_shown(swarm: Swarm):
    certificate = {"NotBefore": "2027-01-15T08:00:00.250000Z", "NotAfter": "2027-01-15T09:00:00.250000Z"}
    answer = await swarm.client.post("/covey/v1/renew")
    assert (answer.status, answer.json) == (200, {"Certificate": certificate})
    assert swarm.life.asked == ["renew"]
    assert (await swarm.client.get("/covey/v1/status")).json["Certificate"] == certificate
