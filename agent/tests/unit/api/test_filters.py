# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of lists, in both forms that clients send."""

from __future__ import annotations

import json

import pytest
from apis import Client, Swarm
from builders import node

X = {"TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}


@pytest.fixture
async def client(swarm: Swarm) -> Client:
    swarm.add(node("n9", labels={"disk": "ssd"}, engine_labels={"zone": "a"}, address="10.0.0.9"))
    await swarm.client.post("/services/create", {**X, "Name": "web", "Labels": {"app": "shop", "tier": "front"}})
    await swarm.client.post("/services/create", {**X, "Name": "web2", "Labels": {"app": "blog"}})
    await swarm.client.post("/services/create", {**X, "Name": "agent", "Mode": {"Global": {}}})
    swarm.run()
    return swarm.client


async def names(client: Client, **filters):
    answer = await client.get(f"/services?filters={json.dumps(filters)}")
    assert answer.status == 200, answer
    return [each["Spec"]["Name"] for each in answer.json]


async def hosts(client: Client, **filters):
    wanted = json.dumps({name.replace("_", "."): values for name, values in filters.items()})
    return [each["ID"] for each in (await client.get(f"/nodes?filters={wanted}")).json]


async def tasks(client: Client, filters):
    answer = await client.get(f"/tasks?filters={json.dumps(filters)}")
    assert answer.status == 200, answer
    return answer.json


async def test_services(client: Client):
    assert await names(client) == ["agent", "web", "web2"]
    assert await names(client, name={"web": True}) == ["web", "web2"]
    assert await names(client, name={"web2": True, "agent": True}) == ["agent", "web2"]
    assert await names(client, name={"web": False}) == ["agent", "web", "web2"]
    assert await names(client, name=["web2"]) == ["web2"]
    assert await names(client, mode=["global"]) == ["agent"]
    assert await names(client, id=["web"]) == []
    id_ = (await client.get("/services/web")).json["ID"]
    assert await names(client, id=[id_]) == ["web"]


async def test_labels_must_all_be_there(client: Client):
    assert await names(client, label=["app"]) == ["web", "web2"]
    assert await names(client, label=["app=shop"]) == ["web"]
    assert await names(client, label={"app=shop": True, "tier": True}) == ["web"]
    assert await names(client, label=["app=shop", "tier=back"]) == []


async def test_nodes(client: Client):
    assert await hosts(client) == ["n1", "n2", "n3", "n9"]
    assert await hosts(client, role=["manager"]) == ["n1"]
    assert await hosts(client, name=["n2"]) == ["n2"]
    assert await hosts(client, id=["n3"]) == ["n3"]
    assert await hosts(client, node_label=["disk=ssd"]) == ["n9"]
    assert await hosts(client, label=["zone"]) == ["n9"]
    assert await hosts(client, membership=["accepted"]) == ["n1", "n2", "n3", "n9"]
    assert await hosts(client, membership=["pending"]) == []


async def test_tasks(client: Client):
    web = await tasks(client, {"service": ["web"]})
    assert len(web) == 1
    on = web[0]["NodeID"]
    assert web[0]["ID"] in {each["ID"] for each in await tasks(client, {"node": {on: True}})}
    assert await tasks(client, {"id": [web[0]["ID"]]}) == web
    assert await tasks(client, {"name": ["web.1"]}) == web
    assert await tasks(client, {"label": ["app=shop"]}) == web
    assert len(await tasks(client, {"desired-state": ["running"]})) == 6
    assert await tasks(client, {"desired-state": ["shutdown"]}) == []


async def test_up_to_date_tasks_are_those_of_todays_spec(swarm: Swarm, client: Client):
    shown = (await client.get("/services/web")).json
    changed = {**shown["Spec"], "TaskTemplate": {"ContainerSpec": {"Image": "bb:2"}}}
    await client.post(f"/services/web/update?version={shown['Version']['Index']}", changed)
    wanted = {"service": {"web": True}, "_up-to-date": {"true": True}}
    assert await tasks(client, wanted) == []
    swarm.run(10)
    assert [each["Spec"]["ContainerSpec"]["Image"] for each in await tasks(client, wanted)] == ["bb:2"]
    assert len(await tasks(client, {"service": ["web"]})) == 2


async def test_a_scaled_service_keeps_its_tasks_up_to_date(swarm: Swarm, client: Client):
    shown = (await client.get("/services/web")).json
    changed = {**shown["Spec"], "Mode": {"Replicated": {"Replicas": 2}}}
    await client.post(f"/services/web/update?version={shown['Version']['Index']}", changed)
    swarm.run()
    assert len(await tasks(client, {"service": ["web"], "_up-to-date": ["true"]})) == 2


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ('/tasks?filters={"bogus":{"x":true}}', "Invalid filter 'bogus'"),
        ('/services?filters={"node":["x"]}', "Invalid filter 'node'"),
        ('/tasks?filters={"desired-state":["jumping"]}', "Invalid desired-state filter: 'jumping'"),
        ('/tasks?filters={"_up-to-date":["maybe"]}', "true or false"),
        ('/nodes?filters={"role":["king"]}', "Invalid role filter: 'king'"),
        ('/services?filters={"mode":["odd"]}', "Invalid mode filter: 'odd'"),
        ("/services?filters=[]", "invalid filters"),
        ("/services?filters={", "invalid filters"),
    ],
)
async def test_filters_that_cannot_be(client: Client, url, text):
    answer = await client.get(url)
    assert answer.status == 400
    assert text in answer.message


@pytest.mark.parametrize("filters", [{"service": ["nope"]}, {"node": ["nope"]}])
async def test_tasks_of_what_is_not_there(client: Client, filters):
    answer = await client.get(f"/tasks?filters={json.dumps(filters)}")
    assert (answer.status, "nope not found" in answer.message) == (404, True)
