# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations: the second one changes nothing, a dry run tells what a real one does, and a race is decided inside."""

from __future__ import annotations

import pytest
from apis import Client, Swarm
from builders import node

from covey.model.changes import Batch, Create, Delete, Update
from covey.model.objects import Service
from covey.model.spec import NodeSpec, Role, ServiceSpec

SPEC = {
    "Name": "web",
    "TaskTemplate": {"ContainerSpec": {"Image": "bb:1", "Env": ["A=b"]}},
    "Mode": {"Replicated": {"Replicas": 2}},
}

IMAGE = {"ContainerSpec": {"Image": "bb:1"}}


async def declare(client: Client, spec=SPEC, **more):
    answer = await client.post("/covey/v1/services/declare", {"Spec": spec, **more})
    assert answer.status == 200, answer
    return answer.json


async def declare_node(client: Client, name: str, **more):
    answer = await client.post(f"/covey/v1/nodes/{name}/declare", more)
    assert answer.status == 200, answer
    return answer.json


def image(name: str):
    return {**SPEC, "TaskTemplate": {"ContainerSpec": {"Image": name, "Env": ["A=b"]}}}


async def test_the_same_again_changes_nothing(client: Client):
    first = await declare(client)
    assert (first["Changed"], first["Action"], first["Before"]) == (True, "create", None)
    again = await declare(client)
    assert (again["Changed"], again["Action"], again["Diff"]) == (False, "none", [])
    assert (again["ID"], again["Version"]) == (first["ID"], first["Version"])
    shown = (await client.get("/services/web")).json
    assert (shown["ID"], shown["Version"]["Index"]) == (first["ID"], first["Version"])


async def test_an_update_tells_what_differs(client: Client):
    await declare(client)
    answer = await declare(client, image("bb:2"))
    assert answer["Action"] == "update"
    assert answer["Diff"] == [{"Path": "TaskTemplate.ContainerSpec.Image", "Before": "bb:1", "After": "bb:2"}]
    shown = (await client.get("/services/web")).json
    assert shown["Version"]["Index"] == answer["Version"]
    assert shown["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"] == "bb:1"


async def test_an_omitted_field_means_its_default(client: Client):
    await declare(client)
    bare = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}
    answer = await declare(client, bare)
    changed = {each["Path"]: (each["Before"], each["After"]) for each in answer["Diff"]}
    assert changed == {"Mode.Replicated.Replicas": (2, 1), "TaskTemplate.ContainerSpec.Env": (["A=b"], None)}
    assert (await declare(client, bare))["Changed"] is False


@pytest.mark.parametrize("state", ["present", "absent"])
async def test_a_dry_run_tells_the_same_and_does_nothing(client: Client, state):
    if state == "absent":
        await declare(client)
    before = (await client.get("/services")).json
    told = await declare(client, image("bb:2"), State=state, DryRun=True)
    assert (await client.get("/services")).json == before
    done = await declare(client, image("bb:2"), State=state)
    for name in ("Changed", "Action", "Before", "After", "Diff"):
        assert told[name] == done[name], name
    assert told["Changed"] is True


async def test_absent_twice(client: Client):
    await declare(client)
    first = await declare(client, {"Name": "web"}, State="absent")
    assert (first["Action"], first["After"]) == ("remove", None)
    assert first["Before"]["Name"] == "web"
    again = await declare(client, {"name": "web", "Whatever": 1}, State="absent")
    assert (again["Changed"], again["Action"], again["ID"]) == (False, "none", "")


async def test_forced_updates_are_kept_by_a_spec_that_does_not_count_them(client: Client):
    await declare(client)
    forced = await declare(client, ForceUpdate=True)
    assert forced["Diff"] == [{"Path": "TaskTemplate.ForceUpdate", "Before": None, "After": 1}]
    assert (await declare(client))["Changed"] is False
    assert (await declare(client, ForceUpdate=True))["Diff"][0]["After"] == 2


async def test_a_count_that_is_declared_holds(client: Client):
    await declare(client, ForceUpdate=True)

    def counted(number: int):
        return {**SPEC, "TaskTemplate": {**SPEC["TaskTemplate"], "ForceUpdate": number}}

    assert (await declare(client, counted(7)))["Diff"][0]["After"] == 7
    assert (await declare(client, counted(9), ForceUpdate=True))["Diff"][0]["After"] == 10
    assert (await declare(client, counted(1), ForceUpdate=True))["Diff"][0]["After"] == 11
    assert (await declare(client, counted(0)))["Diff"][0]["After"] is None


async def test_what_is_shown_can_be_declared(client: Client):
    await declare(client)
    for query in ("", "?insertDefaults=true"):
        shown = (await client.get(f"/services/web{query}")).json["Spec"]
        assert (await declare(client, shown))["Changed"] is False


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Spec": SPEC, "Dry": True}, 400, "unknown field `Dry`; did you mean DryRun?"),
        ({"Spec": {**SPEC, "Replicas": 2}}, 400, "unknown field `Replicas`"),
        ({"Spec": {"Name": "web"}}, 400, "image reference must be provided"),
        (
            {"Spec": image("bb:1"), "State": "gone"},
            400,
            "State: Invalid enum value 'gone'; it is one of present, absent",
        ),
        ({}, 400, "Spec"),
        ({"Spec": {}, "State": "absent"}, 400, "Spec.Name: "),
        ({"Spec": {**SPEC, "Networks": [{"Target": "n"}]}}, 501, "Networks: "),
        (
            {
                "Spec": {
                    **SPEC,
                    "TaskTemplate": {"ContainerSpec": {"Image": "b"}, "Placement": {"Constraints": ["a=b"]}},
                }
            },
            400,
            "TaskTemplate.Placement.Constraints[0]: ",
        ),
    ],
)
async def test_bad_declarations_are_refused_even_as_a_dry_run(client: Client, body, status, text):
    for dry_run in ({}, {"DryRun": True}):
        answer = await client.post("/covey/v1/services/declare", {**body, **dry_run})
        assert answer.status == status
        assert text in answer.message


async def test_another_mode_is_refused(client: Client):
    await declare(client)
    answer = await client.post("/covey/v1/services/declare", {"Spec": {**SPEC, "Mode": {"Global": {}}}, "DryRun": True})
    assert answer.status == 400
    assert "service mode change is not allowed" in answer.message


def overtake(swarm: Swarm, *changes) -> None:
    """Somebody else writes just before the next write."""
    propose = swarm.store.propose

    async def overtaken(batch, patience):
        swarm.store.propose = propose
        await propose(Batch(request_id="other", at=1.0, changes=tuple(change() for change in changes)), patience)
        return await propose(batch, patience)

    swarm.store.propose = overtaken


async def test_a_name_taken_meanwhile_becomes_an_update(swarm: Swarm):
    overtake(swarm, lambda: Create(Service(id="other", spec=ServiceSpec(name="web"))))
    answer = await declare(swarm.client)
    assert (answer["Action"], answer["ID"]) == ("update", "other")
    assert len(swarm.store.view().services) == 1


async def test_a_spec_changed_meanwhile_is_read_again(swarm: Swarm):
    await declare(swarm.client)
    overtake(swarm, lambda: Update(swarm.store.view().service_named("web")))
    assert (await declare(swarm.client, image("bb:2")))["Action"] == "update"
    assert (await declare(swarm.client, image("bb:2")))["Changed"] is False


async def test_a_service_removed_meanwhile_is_absent(swarm: Swarm):
    await declare(swarm.client)
    service = swarm.store.view().service_named("web")
    assert service is not None
    overtake(swarm, lambda: Delete("service", service.id, service.version))
    answer = await swarm.client.post("/covey/v1/services/declare", {"Spec": {"Name": "web"}, "State": "absent"})
    assert answer.status in (200, 404)
    assert swarm.store.view().services == {}


# -- nodes


async def test_labels_are_merged_by_default(client: Client):
    await declare_node(client, "n2", Labels={"a": "1", "b": "2"})
    answer = await declare_node(client, "n2", Labels={"b": "3", "c": "4"}, LabelsToRemove=["a", "nope"])
    assert answer["After"]["Labels"] == {"b": "3", "c": "4"}
    assert [each["Path"] for each in answer["Diff"]] == ["Labels[a]", "Labels[b]", "Labels[c]"]
    again = await declare_node(client, "n2", Labels={"b": "3", "c": "4"}, LabelsToRemove=["a", "nope"])
    assert (again["Changed"], again["Action"]) == (False, "none")


async def test_labels_can_be_replaced(client: Client):
    await declare_node(client, "n2", Labels={"a": "1"})
    answer = await declare_node(client, "n2", Labels={"b": "2"}, LabelsState="replace")
    assert answer["After"]["Labels"] == {"b": "2"}
    assert (await declare_node(client, "n2", LabelsState="replace"))["Changed"] is False
    assert (await declare_node(client, "n2", Labels={}, LabelsState="replace"))["After"]["Labels"] == {}


async def test_what_is_not_declared_of_a_node_stays(client: Client):
    await declare_node(client, "n2-host", Labels={"a": "1"}, Availability="drain")
    answer = await declare_node(client, "n2", Role="manager")
    assert answer["After"] == {"Labels": {"a": "1"}, "Role": "manager", "Availability": "drain"}
    assert (await client.get("/nodes/n2")).json["Spec"] == answer["After"]


async def test_a_dry_run_leaves_a_node_alone(client: Client):
    told = await declare_node(client, "n2", Availability="drain", DryRun=True)
    assert (told["Changed"], told["ID"]) == (True, "n2")
    assert (await client.get("/nodes/n2")).json["Spec"]["Availability"] == "active"


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("name", "wish", "status", "text"),
    [
        ("n1", {"Role": "worker"}, 400, "last manager"),
        ("n1", {"State": "absent", "Force": True}, 400, "must be demoted"),
        ("n2", {"State": "absent"}, 400, "is not down"),
        ("n2", {"Labels": {"a": "1"}, "LabelsToRemove": ["a"]}, 400, "a cannot be both set and removed"),
        ("n2", {"Availability": "asleep"}, 400, "active, pause, drain"),
        ("nope", {"Availability": "drain"}, 404, "node nope not found"),
    ],
)
async def test_nodes_that_cannot_be(client: Client, name, wish, status, text, dry_run):
    answer = await client.post(f"/covey/v1/nodes/{name}/declare", {**wish, "DryRun": dry_run})
    assert answer.status == status
    assert text in answer.message


async def test_a_node_is_removed_once(client: Client):
    told = await declare_node(client, "n2", State="absent", Force=True, DryRun=True)
    assert (told["Action"], told["After"]) == ("remove", None)
    done = await declare_node(client, "n2", State="absent", Force=True)
    assert done["Diff"] == told["Diff"]
    assert (await declare_node(client, "n2", State="absent"))["Action"] == "none"


async def test_two_hosts_of_one_name_are_told_apart_by_id(swarm: Swarm):
    swarm.add(node("n9", hostname="n2-host"), NodeSpec(role=Role.WORKER))
    answer = await swarm.client.post("/covey/v1/nodes/n2-host/declare", {"Availability": "drain"})
    assert answer.status == 400
    assert "ambiguous" in answer.message
    assert (await declare_node(swarm.client, "n9", Availability="drain"))["Changed"] is True


# -- the lock

KEY, OTHER = "SWMKEY-1-" + "A" * 43, "SWMKEY-1-" + "B" * 42 + "A"


async def lock(client: Client, **body):
    answer = await client.post("/covey/v1/cluster/lock", body)
    assert answer.status == 200, answer
    return answer.json


async def unlock_key(client: Client) -> str:
    return (await client.get("/swarm/unlockkey")).json["UnlockKey"]


async def test_a_cluster_is_locked_with_the_key_that_is_declared(client: Client):
    first = await lock(client, AutoLock=True, UnlockKey=KEY)
    assert first == {"Changed": True, "AutoLock": True, "UnlockKeyVersion": 1}
    assert await unlock_key(client) == KEY
    assert not (await lock(client, AutoLock=True, UnlockKey=KEY))["Changed"]
    assert not (await lock(client, AutoLock=True))["Changed"]
    assert (await lock(client, AutoLock=True, UnlockKey=OTHER))["UnlockKeyVersion"] == 2
    assert await unlock_key(client) == OTHER
    assert (await lock(client, AutoLock=False))["Changed"]
    assert not (await lock(client, AutoLock=False))["Changed"]
    assert await unlock_key(client) == ""


async def test_without_a_key_the_managers_make_one(client: Client):
    assert (await lock(client, AutoLock=True))["Changed"]
    assert (await unlock_key(client)).startswith("SWMKEY-1-")


async def test_a_dry_run_locks_nothing(client: Client):
    assert (await lock(client, AutoLock=True, UnlockKey=KEY, DryRun=True))["Changed"]
    assert await unlock_key(client) == ""
    assert not (await lock(client, AutoLock=False, DryRun=True))["Changed"]


@pytest.mark.parametrize("body", [{"AutoLock": True, "UnlockKey": "1234"}, {"AutoLock": False, "UnlockKey": KEY}])
async def test_a_lock_that_cannot_be_is_refused_and_the_key_not_shown(client: Client, body):
    answer = await client.post("/covey/v1/cluster/lock", body)
    assert answer.status == 400
    assert answer.message.startswith("UnlockKey: ")
    assert body["UnlockKey"] not in answer.text
