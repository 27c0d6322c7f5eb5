# SPDX-License-Identifier: GPL-3.0-or-later
"""/services and /tasks: shapes, statuses and texts that clients of the peer depend on."""

from __future__ import annotations

import base64
import json

import pytest
from apis import Client, Swarm
from builders import spec

from covey.model.changes import Batch, Create, Update
from covey.model.objects import Service

X1 = {"Name": "x1", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}


def x1(**template):
    return {"Name": "x1", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}, **template}}


async def test_create_inspect_list_and_delete(client: Client):
    created = await client.post("/services/create", X1)
    assert (created.status, list(created.json)) == (201, ["ID"])
    id_ = created.json["ID"]
    shown = await client.get("/services/x1")
    assert shown.status == 200
    assert shown.json["ID"] == id_
    assert shown.json["Spec"]["Mode"] == {"Replicated": {"Replicas": 1}}
    assert shown.json["Endpoint"] == {"Spec": {}}
    assert shown.json["CreatedAt"] == "2027-01-15T08:00:00.250000Z"
    assert (await client.get("/services")).json == [shown.json]
    deleted = await client.delete(f"/services/{id_}")
    assert (deleted.status, deleted.text) == (200, "")
    assert (await client.get("/services")).json == []


async def test_insert_defaults(client: Client):
    await client.post("/services/create", X1)
    bare = (await client.get("/services/x1?insertDefaults=false")).json["Spec"]
    whole = (await client.get("/services/x1?insertDefaults=true")).json["Spec"]
    assert "UpdateConfig" not in bare
    assert whole["UpdateConfig"]["Order"] == "stop-first"
    assert whole["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 10_000_000_000


async def test_a_service_is_found_by_prefix_of_its_id(client: Client):
    id_ = (await client.post("/services/create", X1)).json["ID"]
    assert (await client.get(f"/services/{id_[:10]}")).json["ID"] == id_


async def test_an_ambiguous_prefix_says_so(client: Client):
    for name in ("a", "b"):
        await client.post("/services/create", {**X1, "Name": name})
    answer = await client.get("/services/1")
    assert answer.status == 400
    assert "ambiguous" in answer.message


async def test_a_service_without_name_gets_one(client: Client):
    nameless = {"TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}
    for _ in range(2):
        assert (await client.post("/services/create", nameless)).status == 201
    names = {each["Spec"]["Name"] for each in (await client.get("/services")).json}
    assert len(names) == 2
    assert all(name.startswith("service-") for name in names)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({**X1, "Name": "bad name"}, 400, "name must be valid as a DNS name component"),
        (
            {"Name": "x2", "TaskTemplate": {"ContainerSpec": {}}},
            400,
            "ContainerSpec: image reference must be provided",
        ),
        (x1(Placement={"Constraints": ["node=x"]}), 400, "constraint expected one operator from ==, !="),
        (
            x1(Resources={"Limits": {"MemoryBytes": 100}}),
            400,
            "invalid memory value 100: Must be at least 4MiB",
        ),
        ({**X1, "Mode": {"Replicated": {"Replicas": 1}, "Global": {}}}, 400, "must specify only one service mode"),
        ("x", 400, "ServiceSpec"),
        (b"", 400, "no body"),
        ({**X1, "Nope": 1}, 400, "unknown field `Nope`"),
        (x1(Networks=[{"Target": "n"}]), 501, "overlay networks are not built yet"),
    ],
)
async def test_bad_services_are_refused(client: Client, body, status, text):
    answer = await client.post("/services/create", body)
    assert answer.status == status
    assert text in answer.message
    assert (await client.get("/services")).json == []


async def test_a_taken_name_is_a_conflict(client: Client):
    await client.post("/services/create", X1)
    answer = await client.post("/services/create", X1)
    assert answer.status == 409
    assert "name conflicts with an existing object: service x1 already exists" in answer.message
    assert answer.json["code"] == "Conflict"


@pytest.mark.parametrize("path", ["/services/nope", "/tasks/nope", "/nodes/nope"])
async def test_what_is_not_there_is_not_found(client: Client, path):
    answer = await client.get(path)
    assert (answer.status, answer.message) == (404, f"{path.split('/')[1][:-1]} nope not found")


async def test_update_replaces_the_spec_and_keeps_the_one_before(client: Client):
    await client.post("/services/create", X1)
    before = (await client.get("/services/x1")).json
    changed = {**before["Spec"], "Mode": {"Replicated": {"Replicas": 3}}}
    answer = await client.post(f"/services/{before['ID']}/update?version={before['Version']['Index']}", changed)
    assert (answer.status, answer.json) == (200, {"Warnings": None})
    after = (await client.get("/services/x1")).json
    assert after["Spec"]["Mode"]["Replicated"]["Replicas"] == 3
    assert after["PreviousSpec"]["Mode"]["Replicated"]["Replicas"] == 1
    assert after["Version"]["Index"] > before["Version"]["Index"]


async def test_rollback_swaps_the_specs(client: Client):
    await client.post("/services/create", X1)
    for query, body in (("", {**X1, "Labels": {"a": "b"}}), ("&rollback=previous", X1)):
        version = (await client.get("/services/x1")).json["Version"]["Index"]
        assert (await client.post(f"/services/x1/update?version={version}{query}", body)).status == 200
    shown = (await client.get("/services/x1")).json
    assert shown["Spec"]["Labels"] == {}
    assert shown["PreviousSpec"]["Labels"] == {"a": "b"}


async def test_rollback_needs_a_spec_before(client: Client):
    await client.post("/services/create", X1)
    version = (await client.get("/services/x1")).json["Version"]["Index"]
    answer = await client.post(f"/services/x1/update?version={version}&rollback=previous", X1)
    assert answer.status == 400
    assert "does not have a previous spec" in answer.message
    assert (await client.post(f"/services/x1/update?version={version}&rollback=other", X1)).status == 400


async def test_an_update_from_an_old_version_is_out_of_sequence(client: Client):
    await client.post("/services/create", X1)
    answer = await client.post("/services/x1/update?version=1", X1)
    assert answer.status == 409
    assert "update out of sequence" in answer.message


@pytest.mark.parametrize("query", ["", "?version=", "?version=x", "?version=-1"])
async def test_an_update_needs_a_version(client: Client, query):
    await client.post("/services/create", X1)
    answer = await client.post(f"/services/x1/update{query}", X1)
    assert answer.status == 400
    assert answer.message.startswith("invalid service version '")
    assert "strconv.ParseUint: parsing" in answer.message


@pytest.mark.parametrize("change", [{"Name": "x2"}, {"Mode": {"Global": {}}}])
async def test_name_and_mode_are_for_life(client: Client, change):
    await client.post("/services/create", X1)
    version = (await client.get("/services/x1")).json["Version"]["Index"]
    answer = await client.post(f"/services/x1/update?version={version}", {**X1, **change})
    assert answer.status in (400, 409)
    assert (await client.get("/services/x1")).json["Version"]["Index"] == version


async def test_a_repeated_request_takes_effect_once(client: Client):
    first = await client.post("/services/create", X1, X_Covey_Request_Id="r1")
    again = await client.post("/services/create", X1, X_Covey_Request_Id="r1")
    assert (again.status, again.json) == (201, first.json)
    for _ in range(2):
        assert (await client.delete("/services/x1", X_Covey_Request_Id="r2")).status == 200


async def test_an_id_used_again_for_another_request_is_another_request(client: Client):
    await client.post("/services/create", X1, X_Covey_Request_Id="r1")
    await client.post("/services/create", {**X1, "Name": "x2"}, X_Covey_Request_Id="r1")
    assert len((await client.get("/services")).json) == 2


async def test_a_repeat_is_refused_again(client: Client):
    await client.post("/services/create", X1)
    for _ in range(2):
        assert (await client.post("/services/create", X1, X_Covey_Request_Id="r1")).status == 409


async def test_a_service_that_is_written_meanwhile_is_removed_nevertheless(swarm: Swarm):
    await swarm.client.post("/services/create", X1)
    store, client = swarm.store, swarm.client
    propose = store.propose

    async def overtaken(batch, patience):
        store.propose = propose
        service = store.view().service_named("x1")
        await propose(Batch(request_id="other", at=1.0, changes=(Update(service),)), patience)
        return await propose(batch, patience)

    store.propose = overtaken
    assert (await client.delete("/services/x1")).status == 200
    assert store.view().services == {}


async def test_status_counts_tasks(swarm: Swarm):
    await swarm.client.post("/services/create", {**X1, "Mode": {"Replicated": {"Replicas": 3}}})
    await swarm.client.post("/services/create", {**X1, "Name": "g", "Mode": {"Global": {}}})
    listed = (await swarm.client.get("/services?status=true")).json
    assert [each["ServiceStatus"]["DesiredTasks"] for each in listed] == [3, 3]
    swarm.run()
    listed = (await swarm.client.get("/services?status=true")).json
    assert [each["ServiceStatus"]["RunningTasks"] for each in listed] == [3, 3]
    assert "ServiceStatus" not in (await swarm.client.get("/services")).json[0]


async def test_credentials_that_go_nowhere_are_warned_of(client: Client):
    header = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "p"}).encode()).decode().rstrip("=")
    created = await client.post("/services/create", X1, X_Registry_Auth=header)
    assert "credentials" in created.json["Warnings"][0]
    for empty in ("e30=", "", base64.urlsafe_b64encode(b'{"username":""}').decode()):
        created = await client.post("/services/create", {**X1, "Name": f"e{len(empty)}"}, X_Registry_Auth=empty)
        assert "Warnings" not in created.json


async def test_a_task_as_the_peer_shows_it(swarm: Swarm):
    ports = [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9191, "PublishMode": "host"}]
    await swarm.client.post("/services/create", {**X1, "EndpointSpec": {"Mode": "vip", "Ports": ports}})
    swarm.run()
    service = (await swarm.client.get("/services/x1")).json
    assert service["Endpoint"] == {"Spec": {"Mode": "vip", "Ports": ports}, "Ports": ports}
    (task,) = (await swarm.client.get("/tasks")).json
    assert task["ServiceID"] == service["ID"]
    assert task["Slot"] == 1
    assert task["DesiredState"] == "running"
    assert task["Status"]["State"] == "running"
    assert task["Status"]["PortStatus"] == {"Ports": ports}
    assert task["Spec"]["ContainerSpec"]["Image"] == "bb:1"
    assert (await swarm.client.get(f"/tasks/{task['ID']}")).json == task


async def test_a_task_that_finds_no_node_says_why(swarm: Swarm):
    await swarm.client.post("/services/create", x1(Placement={"Constraints": ["node.labels.disk==ssd"]}))
    swarm.run()
    (task,) = (await swarm.client.get("/tasks")).json
    assert task["Status"]["State"] == "pending"
    assert "no suitable node" in task["Status"]["Err"]
    assert "NodeID" not in task


async def test_tasks_are_listed_by_slot(swarm: Swarm):
    swarm.world.commit(Create(Service(id="s-web", spec=spec("web", 300))))
    swarm.run(8)
    slots = [task["Slot"] for task in (await swarm.client.get("/tasks")).json]
    assert slots == list(range(1, 301))
