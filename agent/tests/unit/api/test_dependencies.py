# SPDX-License-Identifier: GPL-3.0-or-later
"""/secrets and /configs: the peer's shapes, refusals, new values and who follows them; nothing shows a secret."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from apis import Answer, Client, Swarm

from covey.api.dependencies import LIMITS
from covey.model.objects import Task
from covey.model.tasks import TaskState

HIDDEN = "correct horse battery staple"
KINDS = ("secret", "config")


def data(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def body(name: str, text: str | bytes = HIDDEN, **parts: Any) -> dict[str, Any]:
    return {"Name": name, "Data": data(text), **parts}


def web(name: str = "web", secrets: Any = (), configs: Any = (), replicas: int = 2, **parts: Any) -> dict[str, Any]:
    container = {"Image": "bb:1", "Secrets": list(secrets), "Configs": list(configs)}
    mode = {"Replicated": {"Replicas": replicas}}
    return {"Name": name, "TaskTemplate": {"ContainerSpec": container}, "Mode": mode, **parts}


async def made(client: Client, kind: str, name: str, text: str = HIDDEN) -> str:
    answer = await client.post(f"/{kind}s/create", body(name, text))
    assert answer.status == 201, answer
    return str(answer.json["ID"])


async def declared(client: Client, kind: str, name: str, text: str, **parts: Any) -> Answer:
    answer = await client.post(f"/covey/v1/{kind}s/declare", {"Spec": body(name, text), **parts})
    assert answer.status == 200, answer
    return answer


async def put(client: Client, spec: dict[str, Any]) -> Answer:
    answer = await client.post("/covey/v1/services/declare", {"Spec": spec})
    assert answer.status == 200, answer
    return answer


def running(swarm: Swarm, name: str) -> list[Task]:
    return [task for task in swarm.world.tasks(name) if task.status.state is TaskState.RUNNING]


def runs_with(swarm: Swarm, name: str) -> set[str]:
    """The ids of the secrets that the running tasks of a service were made with."""
    secrets = (task.spec.container_spec.secrets or () for task in running(swarm, name))
    return {reference.secret_id or "" for references in secrets for reference in references}


@pytest.mark.parametrize("kind", KINDS)
async def test_create_inspect_list_and_remove(client: Client, kind: str):
    created = await client.post(f"/{kind}s/create", body("one", Labels={"a": "b"}))
    assert (created.status, list(created.json)) == (201, ["ID"])
    shown = (await client.get(f"/{kind}s/one")).json
    hidden = {} if kind == "secret" else {"Data": data(HIDDEN)}
    assert shown["Spec"] == {"Name": "one", "Labels": {"a": "b"}, **hidden}
    assert shown["ID"] == created.json["ID"]
    assert {"Version", "CreatedAt", "UpdatedAt"} < shown.keys()
    assert (await client.get(f"/{kind}s")).json == [shown]
    assert (await client.get(f"/{kind}s/{shown['ID'][:8]}")).json == shown
    removed = await client.delete(f"/{kind}s/one")
    assert (removed.status, removed.text) == (204, "")
    missing = await client.get(f"/{kind}s/one")
    assert (missing.status, missing.message) == (404, f"{kind} one not found")


async def test_kinds_and_services_have_names_of_their_own(client: Client):
    for kind in KINDS:
        await made(client, kind, "same")
    assert (await client.post("/services/create", web("same"))).status == 201
    again = await client.post("/secrets/create", body("same"))
    assert again.status == 409
    assert "name conflicts with an existing object: secret same already exists" in again.message


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"Name": "s", "Data": "!!"}, "illegal base64 data at input byte 0"),
        ({"Name": "s", "Data": "QUJ$"}, "illegal base64 data at input byte 3"),
        ({"Name": "s"}, "must be larger than 0"),
        ({"Name": "s", "Data": ""}, "must be larger than 0"),
        ({"Name": "", "Data": "eA=="}, "invalid name"),
        ({"Name": "a b", "Data": "eA=="}, "invalid name"),
        ({"Name": "x" * 65, "Data": "eA=="}, "invalid name"),
        ({"Name": "s", "Data": "eA==", "Driver": {"Name": "vault"}}, "Driver"),
        ({"Name": "s", "Data": "eA==", "Templating": {"Name": "jinja"}}, "template driver"),
        ({"Name": "s", "Data": "eA==", "Dataa": "x"}, "did you mean Data?"),
        ({"Name": "s", "Data": 7}, "Data"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_is_refused(client: Client, kind: str, sent: dict[str, Any], text: str):
    answer = await client.post(f"/{kind}s/create", sent)
    assert answer.status == 400
    assert text in answer.message


@pytest.mark.parametrize("kind", KINDS)
async def test_the_largest_data(client: Client, kind: str):
    assert (await client.post(f"/{kind}s/create", body("most", b"x" * (LIMITS[kind] - 1)))).status == 201
    answer = await client.post(f"/{kind}s/create", body("more", b"x" * LIMITS[kind]))
    assert (answer.status, f"less than {LIMITS[kind]} bytes" in answer.message) == (400, True)


async def test_filters(client: Client):
    ids = [await made(client, "secret", name) for name in ("db", "db-old")]
    labelled = await client.post("/secrets/create", body("web", Labels={"team": "red", "x": ""}))

    async def named(filters: str) -> list[str]:
        answer = await client.get(f"/secrets?filters={filters}")
        assert answer.status == 200, answer
        return [one["Spec"]["Name"] for one in answer.json]

    assert await named('{"name":{"db":true}}') == ["db", "db-old"]
    assert await named('{"names":{"db":true}}') == ["db"]
    assert await named(f'{{"id":["{ids[1]}","{labelled.json["ID"]}"]}}') == ["db-old", "web"]
    assert await named('{"label":{"team=red":true}}') == ["web"]
    assert (await client.get('/secrets?filters={"bogus":{"x":true}}')).message == "Invalid filter 'bogus'"


async def test_a_service_refers_by_name_or_id_and_gets_the_peers_defaults(client: Client):
    id_ = await made(client, "secret", "key")
    config = await made(client, "config", "app.conf")
    by_name = [{"SecretName": "key"}, {"SecretID": id_, "SecretName": "key", "File": {"Name": "other", "UID": "7"}}]
    answer = await client.post("/services/create", web(secrets=by_name, configs=[{"ConfigID": config}]))
    assert answer.status == 201, answer
    shown = (await client.get("/services/web")).json["Spec"]["TaskTemplate"]["ContainerSpec"]
    file = {"UID": "0", "GID": "0", "Mode": 0o444}
    assert shown["Secrets"] == [
        {"File": {"Name": "key", **file}, "SecretID": id_, "SecretName": "key"},
        {"File": {"Name": "other", **file, "UID": "7"}, "SecretID": id_, "SecretName": "key"},
    ]
    assert shown["Configs"] == [{"File": {"Name": "app.conf", **file}, "ConfigID": config, "ConfigName": "app.conf"}]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"secrets": [{"SecretName": "nope"}]}, "Secrets[0]: secret nope not found"),
        ({"secrets": [{"SecretID": "nope", "SecretName": "key"}]}, "Secrets[0]: secret key not found"),
        ({"secrets": [{}]}, "Secrets[0]: malformed secret reference"),
        ({"secrets": [{"SecretID": "ID", "SecretName": "other"}]}, "is the id of secret key, not of other"),
        ({"secrets": [{"SecretName": "key"}, {"SecretName": "key"}]}, "/run/secrets/key is the target of Secrets[0]"),
        (
            {
                "secrets": [{"SecretName": "key", "File": {"Name": "/etc/x"}}],
                "configs": [{"ConfigName": "conf", "File": {"Name": "etc//x"}}],
            },
            "Configs[0].File.Name: /etc/x is the target of Secrets[0] already",
        ),
        ({"configs": [{"ConfigName": "conf", "Runtime": {}}, {"ConfigName": "x"}]}, "config x not found"),
        ({"configs": [{"ConfigName": "conf", "File": {"Name": "../x"}}]}, "must not hold '..'"),
        ({"configs": [{"ConfigName": "conf", "File": {"Name": "/"}}]}, "is no name of a file"),
        ({"configs": [{"ConfigName": "conf", "File": {"Name": "a\0b"}}]}, "is no name of a file"),
        ({"configs": [{"ConfigName": "conf", "File": {"Name": "x", "UID": "root"}}]}, "File.UID: 'root' is no number"),
        ({"configs": [{"ConfigName": "conf", "File": {"Name": "x", "Mode": 0o4755}}]}, "between 0 and 0777"),
    ],
)
async def test_references_that_cannot_be_are_refused(client: Client, parts: dict[str, Any], text: str):
    id_ = await made(client, "secret", "key")
    await made(client, "config", "conf")
    for reference in parts.get("secrets", ()):
        reference.update({"SecretID": id_} if reference.get("SecretID") == "ID" else {})
    answer = await client.post("/services/create", web(**parts))
    assert answer.status == 400
    assert text in answer.message


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_used_is_not_removed(swarm: Swarm, client: Client, kind: str):
    await made(client, kind, "used")
    references = {f"{kind}s": [{f"{kind.title()}Name": "used"}]}
    for name in ("web", "api"):
        await put(client, web(name, **references))
    answer = await client.delete(f"/{kind}s/used")
    assert answer.status == 400
    assert answer.message == f"{kind} 'used' is in use by the following services: api, web"
    refused = await client.post(f"/covey/v1/{kind}s/declare", {"Spec": {"Name": "used"}, "State": "absent"})
    assert refused.status == 400
    for name in ("web", "api"):
        await client.delete(f"/services/{name}")
    assert (await client.delete(f"/{kind}s/used")).status == 204
    swarm.run(5)


async def test_a_new_value_rolls_its_services_and_no_other(swarm: Swarm, client: Client):
    old = await made(client, "secret", "key", "first")
    await put(client, web(secrets=[{"SecretName": "key"}], replicas=3, UpdateConfig={"Parallelism": 1}))
    await put(client, web("other", replicas=1))
    swarm.run(8)
    untouched = {task.id for task in running(swarm, "other")}
    assert runs_with(swarm, "web") == {old}
    answer = await declared(client, "secret", "key", "second")
    new = answer.json["ID"]
    assert (answer.json["Action"], new != old) == ("update", True)
    assert [change["Path"] for change in answer.json["Diff"]] == ["Value"]
    fewest = 3
    for _ in range(60):
        swarm.run(1)
        fewest = min(fewest, len(running(swarm, "web")))
    assert runs_with(swarm, "web") == {new}
    assert fewest >= 2
    assert {task.id for task in running(swarm, "other")} == untouched
    assert (await client.get("/services/web")).json["UpdateStatus"]["State"] == "completed"
    shown = (await client.get("/secrets")).json
    assert [(one["ID"], one["Spec"]["Name"]) for one in shown] == [(new, "key")]


async def test_a_rollback_of_the_service_is_one_of_the_value(swarm: Swarm, client: Client):
    old = await made(client, "secret", "key", "first")
    await put(client, web(secrets=[{"SecretName": "key"}]))
    swarm.run(8)
    new = (await declared(client, "secret", "key", "second")).json["ID"]
    swarm.run(40)
    version = (await client.get("/services/web")).json["Version"]["Index"]
    back = await client.post(f"/services/web/update?version={version}&rollback=previous", web())
    assert back.status == 200, back
    swarm.run(40)
    assert runs_with(swarm, "web") == {old}
    # An update that has nothing to do with it leaves the old value where it is; a declaration by name does not.
    shown = (await client.get("/services/web")).json
    same = await client.post(f"/services/web/update?version={shown['Version']['Index']}", shown["Spec"])
    assert same.status == 200
    swarm.run(5)
    assert runs_with(swarm, "web") == {old}
    await put(client, web(secrets=[{"SecretName": "key"}]))
    swarm.run(40)
    assert runs_with(swarm, "web") == {new}


async def test_a_retired_id_of_a_new_service_means_the_newest_value(swarm: Swarm, client: Client):
    old = await made(client, "secret", "key", "first")
    new = (await declared(client, "secret", "key", "second")).json["ID"]
    await client.post("/services/create", web(secrets=[{"SecretID": old, "SecretName": "key"}]))
    swarm.run(8)
    assert runs_with(swarm, "web") == {new}


async def test_the_same_value_changes_nothing(swarm: Swarm, client: Client):
    await made(client, "secret", "key", "first")
    await put(client, web(secrets=[{"SecretName": "key"}]))
    swarm.run(8)
    before = dict(swarm.store.view().tasks)
    assert (await declared(client, "secret", "key", "first")).json["Action"] == "none"
    assert (await put(client, web(secrets=[{"SecretName": "key"}]))).json["Action"] == "none"
    swarm.run(8)
    assert swarm.store.view().tasks == before


async def test_labels_alone_keep_the_value_and_its_id(client: Client):
    id_ = await made(client, "config", "conf", "text")
    version = (await client.get("/configs/conf")).json["Version"]["Index"]
    url = f"/configs/conf/update?version={version}"
    answer = await client.post(url, body("conf", "text", Labels={"a": "b"}))
    assert (answer.status, answer.json) == (200, {"ID": id_})
    shown = (await client.get(f"/configs/{id_}")).json
    assert shown["Spec"]["Labels"] == {"a": "b"}
    stale = await client.post(url, body("conf", "text"))
    assert (stale.status, "update out of sequence" in stale.message) == (409, True)
    renamed = await client.post(f"/configs/conf/update?version={shown['Version']['Index']}", {"Name": "new"})
    assert (renamed.status, "cannot be changed" in renamed.message) == (400, True)


async def test_the_peers_update_takes_a_new_value(client: Client):
    id_ = await made(client, "secret", "key", "first")
    shown = (await client.get("/secrets/key")).json
    answer = await client.post(f"/secrets/{id_}/update?version={shown['Version']['Index']}", body("key", "second"))
    assert answer.status == 200
    assert answer.json["ID"] == (await client.get("/secrets/key")).json["ID"] != id_


async def test_a_repeated_request_makes_one_value(client: Client):
    id_ = await made(client, "secret", "key", "first")
    shown = (await client.get("/secrets/key")).json
    url = f"/secrets/{id_}/update?version={shown['Version']['Index']}"
    answers = [await client.post(url, body("key", "second"), X_Covey_Request_Id="r1") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    back = f"/covey/v1/secrets/{answers[0].json['ID']}/rollback"
    answers = [await client.post(back, X_Covey_Request_Id="r2") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert len((await client.get("/covey/v1/secrets/key/values")).json) == 3
    removals = [await client.delete("/secrets/key", X_Covey_Request_Id="r3") for _ in range(2)]
    assert [answer.status for answer in removals] == [204, 204]


async def test_another_template_driver_is_another_value(client: Client):
    id_ = await made(client, "config", "conf", "{{.Node.ID}}")
    spec = body("conf", "{{.Node.ID}}", Templating={"Name": "golang"})
    answer = await client.post("/covey/v1/configs/declare", {"Spec": spec})
    assert answer.json["ID"] != id_
    assert (await client.get("/configs/conf")).json["Spec"]["Templating"] == {"Name": "golang"}


async def test_old_values_are_kept_and_can_come_back(client: Client):
    for number in range(9):
        await declared(client, "secret", "key", f"value {number}")
    values = (await client.get("/covey/v1/secrets/key/values")).json
    assert [(one["Number"], one["Current"]) for one in values] == [(9, True), *((n, False) for n in range(8, 3, -1))]
    assert (await client.post("/covey/v1/secrets/key/rollback?number=5")).status == 200
    assert (await declared(client, "secret", "key", "value 4")).json["Action"] == "none"
    assert (await client.post("/covey/v1/secrets/key/rollback")).status == 200
    assert (await declared(client, "secret", "key", "value 8")).json["Action"] == "none"
    missing = await client.post("/covey/v1/secrets/key/rollback?number=1")
    assert (missing.status, "has no value 1; kept are: " in missing.message) == (400, True)


async def test_a_value_that_a_task_was_made_with_outlives_its_turn(swarm: Swarm, client: Client):
    first = await made(client, "secret", "key", "value 0")
    await put(client, web(secrets=[{"SecretName": "key"}]))
    swarm.run(8)
    for number in range(1, 9):  # quicker than any roll-out
        await declared(client, "secret", "key", f"value {number}")
    assert first in swarm.store.view().secrets
    swarm.run(60)
    assert first not in runs_with(swarm, "web")
    await declared(client, "secret", "key", "the last")
    assert first not in swarm.store.view().secrets


async def test_prune_takes_what_nobody_needs(swarm: Swarm, client: Client):
    for name in ("used", "before", "unused", "kept"):
        await made(client, "secret", name)
    await put(client, web(secrets=[{"SecretName": "before"}]))
    await put(client, web(secrets=[{"SecretName": "used"}]))
    prune = '/covey/v1/secrets/prune?filters={"name":{"u":true,"b":true}}'
    assert (await client.post(prune + "&dry-run=true")).json == {"Removed": ["unused"]}
    assert len((await client.get("/secrets")).json) == 4
    assert (await client.post(prune)).json == {"Removed": ["unused"]}
    assert [one["Spec"]["Name"] for one in (await client.get("/secrets")).json] == ["before", "kept", "used"]
    await client.delete("/services/web")
    swarm.run(10)
    assert (await client.post("/covey/v1/secrets/prune")).json == {"Removed": ["before", "kept", "used"]}
    assert swarm.store.view().secrets == {}


async def test_a_dry_run_writes_nothing_and_shows_no_secret(client: Client):
    answer = await declared(client, "secret", "key", HIDDEN, DryRun=True)
    assert (answer.json["Action"], answer.json["After"]) == ("create", {"Name": "key", "Labels": {}, "Value": 1})
    assert (await client.get("/secrets")).json == []
    config = await declared(client, "config", "conf", "old")
    assert config.json["After"]["Data"] == "old"
    changed = await declared(client, "config", "conf", "new", DryRun=True)
    assert [(d["Path"], d["Before"], d["After"]) for d in changed.json["Diff"]] == [
        ("Data", "old", "new"),
        ("Value", 1, 2),
    ]


async def test_no_answer_holds_a_secrets_data(swarm: Swarm, client: Client):
    shown: list[str] = []

    async def ask(method: str, url: str, sent: Any = None) -> Answer:
        answer = await client.call(method, url, sent)
        shown.append(answer.text)
        return answer

    id_ = (await ask("POST", "/secrets/create", body("key"))).json["ID"]
    await ask("POST", "/services/create", web(secrets=[{"SecretName": "key"}]))
    await ask("POST", "/covey/v1/secrets/declare", {"Spec": body("key", HIDDEN + "2")})
    await ask("POST", "/covey/v1/secrets/declare", {"Spec": body("key", HIDDEN + "3"), "DryRun": True})
    await ask("POST", "/covey/v1/secrets/rollback", None)
    await ask("POST", "/secrets/create", body("key"))
    await ask("POST", "/secrets/create", {"Name": "x", "Data": [data(HIDDEN)]})
    await ask("POST", "/secrets/create", {"Name": "x", "Data": data(HIDDEN)[:-1] + "$"})
    swarm.run(10)
    for url in ("/secrets", f"/secrets/{id_}", "/secrets/key", "/services", "/tasks", "/covey/v1/secrets/key/values"):
        await ask("GET", url)
    whole = "\n".join(shown)
    assert HIDDEN not in whole
    assert not re.search(re.escape(data(HIDDEN)[:20]), whole)
    assert HIDDEN not in repr(swarm.store.view())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HIDDEN + "{{.Node.ID}} {{range .Service.Labels}}", "Data: placeholder 2 is none that can be filled in"),
        (HIDDEN + "{{.Node.ID", "Data: a placeholder is not closed"),
        ('{{secret "a" | printf}}', "Data: placeholder 1 is none"),
    ],
)
async def test_a_template_that_no_node_could_fill_in_is_refused_and_not_shown(client: Client, text: str, reason: str):
    spec = body("conf", text, Templating={"Name": "golang"})
    for answer in (
        await client.post("/secrets/create", spec),
        await client.post("/covey/v1/secrets/declare", {"Spec": spec}),
    ):
        assert (answer.status, answer.message.startswith(reason)) == (400, True)
        assert HIDDEN not in answer.message
    good = (
        '{{ .Service.Labels.a }}{{index .Service.Labels "b"}}{{secret "a"}}{{config `b`}}{{env "C"}}{{- .Task.Slot -}}'
    )
    assert (await client.post("/secrets/create", {**spec, "Data": data(good)})).status == 201


async def test_a_rollback_to_what_is_gone_is_refused_in_words(client: Client):
    await made(client, "secret", "key")
    await put(client, web(secrets=[{"SecretName": "key"}]))
    await put(client, web())
    assert (await client.delete("/secrets/key")).status == 204
    version = (await client.get("/services/web")).json["Version"]["Index"]
    answer = await client.post(f"/services/web/update?version={version}&rollback=previous", web())
    assert answer.status == 409
    assert "service web refers to secret key" in answer.message
    assert "which is gone" in answer.message
