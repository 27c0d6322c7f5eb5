# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequences of calls that unmodified clients make, command by command, with the statuses they depend on.

Recorded from docker 20.10 and 28.2 against the peer; where a status differs, the line says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import docker.types
import pytest
from apis import Answer, Client, Swarm
from builders import node
from docker.utils import convert_filters

from covey.model.changes import Create
from covey.model.objects import StoredConfig, StoredSecret
from covey.model.secret import Secret
from covey.model.spec import DependencySpec, NodeSpec, Role

Story = list[tuple[str, int, Any]]


def template(**parts: Any) -> dict[str, Any]:
    """A task's template as docker 28 sends it when no flag was given."""
    return {
        "ContainerSpec": {"Image": "bb:1", "Args": ["sleep", "1000"], "Init": False, "DNSConfig": {}},
        "Resources": {"Limits": {}, "Reservations": {}},
        "Placement": {},
        "ForceUpdate": 0,
        **parts,
    }


def service(name: str, **parts: Any) -> dict[str, Any]:
    mode = {"Replicated": {"Replicas": 2}}
    spec = {"Name": name, "Labels": {}, "TaskTemplate": template(), "Mode": mode, "EndpointSpec": {"Mode": "vip"}}
    return {**spec, **parts}


def port(published: int, target: int) -> dict[str, Any]:
    return {"Protocol": "tcp", "TargetPort": target, "PublishedPort": published, "PublishMode": "host"}


class Session:
    """A client's calls in turn; ID and N stand for the id and version of what was last inspected or created."""

    def __init__(self, client: Client) -> None:
        self.client, self.id, self.version, self.spec = client, "", 0, {}

    async def play(self, line: str, status: int, body: Any = None) -> Answer:
        method, url = line.split(" ", 1)
        url = re.sub(r"\bID\b", self.id, url).replace("version=N", f"version={self.version}")
        content = body(self.spec) if callable(body) else body
        answer = await self.client.call(method, url, content)
        assert answer.status == status, f"{line}: {answer}"
        if answer.text.startswith("{"):
            self._note(answer.json)
        return answer

    def _note(self, json: dict[str, Any]) -> None:
        self.id = json.get("Swarm", json).get("NodeID") or json.get("ID") or self.id
        self.version = json.get("Version", {}).get("Index", self.version) if "Spec" in json else self.version
        self.spec = json.get("Spec", self.spec)


def scaled(replicas: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda spec: {**spec, "Mode": {"Replicated": {"Replicas": replicas}}}


def with_env(value: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(spec: dict[str, Any]) -> dict[str, Any]:
        container = {**spec["TaskTemplate"]["ContainerSpec"], "Env": [value]}
        return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ContainerSpec": container}}

    return change


def forced(spec: dict[str, Any]) -> dict[str, Any]:
    count = spec["TaskTemplate"]["ForceUpdate"] + 1
    return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ForceUpdate": count}}


def same(spec: dict[str, Any]) -> dict[str, Any]:
    return spec


def autolock(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "EncryptionConfig": {"AutoLockManagers": True}}


def dependency(name: str) -> dict[str, Any]:
    """A secret or config as the docker client sends it."""
    return {"Name": name, "Labels": {}, "Data": "eA=="}


def with_files(spec: dict[str, Any]) -> dict[str, Any]:
    """What ``--secret-add sec0 --config-add cfg0`` adds; the ids were looked up by name."""
    owner = {"UID": "0", "GID": "0", "Mode": 0o444}
    files = {
        "Secrets": [{"File": {"Name": "sec0", **owner}, "SecretID": "idofsec0", "SecretName": "sec0"}],
        "Configs": [{"File": {"Name": "/cfg0", **owner}, "ConfigID": "idofcfg0", "ConfigName": "cfg0"}],
    }
    container = {**spec["TaskTemplate"]["ContainerSpec"], **files}
    return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ContainerSpec": container}}


def role(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda spec: {**spec, "Role": name}


S1 = service(
    "s1",
    TaskTemplate=template(Placement={"Constraints": ["node.role==manager"], "Platforms": [{"OS": "linux"}]}),
    EndpointSpec={"Mode": "vip", "Ports": [port(9090, 80)]},
)
UP_TO_DATE = 'GET /tasks?filters={"_up-to-date":{"true":true},"service":{"%s":true}}'
INSPECT_S1 = ("GET /services/s1?insertDefaults=false", 200, None)
UNROTATED = "rotateManagerToken=false&rotateManagerUnlockKey=false"
ROTATED_KEY = "rotateManagerToken=false&rotateManagerUnlockKey=true"
STACK = 'filters={"label":{"com.docker.stack.namespace=st":true}}'

COMMANDS: dict[str, Story] = {
    "version": [("GET /version", 200, None)],
    "info": [("GET /info", 200, None)],
    "node ls": [("GET /nodes", 200, None), ("GET /info", 200, None)],
    "node inspect self": [("GET /info", 200, None), ("GET /nodes/ID", 200, None)],
    "node ps self": [
        ("GET /info", 200, None),
        ("GET /nodes/ID", 200, None),
        ('GET /tasks?filters={"node":{"ID":true}}', 200, None),
        ("GET /services/nope?insertDefaults=false", 404, None),
    ],
    "node update --label-add a=b self": [("GET /nodes/self", 404, None)],
    "service create --detach": [
        ("GET /distribution/bb:1/json", 500, None),
        ("POST /services/create", 201, service("s9")),
    ],
    "service create": [
        ("GET /distribution/bb:1/json", 500, None),
        ("POST /services/create", 201, service("s9")),
        ("GET /services/ID?insertDefaults=false", 200, None),
        (UP_TO_DATE % "ID", 200, None),
        ("GET /nodes", 200, None),
    ],
    "service create --mode global": [("POST /services/create", 201, service("g1", Mode={"Global": {}}))],
    # not built yet: the peer answers 201
    "service create --mode replicated-job": [
        ("POST /services/create", 400, service("j1", Mode={"ReplicatedJob": {"MaxConcurrent": 2}})),
    ],
    "service ls": [("GET /services?status=true", 200, None)],
    "service ls --filter name=s1": [('GET /services?filters={"name":{"s1":true}}&status=true', 200, None)],
    "service ps s1": [
        ('GET /services?filters={"id":{"s1":true}}', 200, None),
        ('GET /services?filters={"name":{"s1":true}}', 200, None),
        ('GET /tasks?filters={"service":{"s1":true}}', 200, None),
        INSPECT_S1,
        ("GET /nodes/n1", 200, None),
    ],
    "service inspect s1": [("GET /services/s1?insertDefaults=true", 200, None)],
    "service scale --detach s1=3": [INSPECT_S1, ("POST /services/ID/update?version=N", 200, scaled(3))],
    "service scale s1=2": [
        INSPECT_S1,
        ("POST /services/ID/update?version=N", 200, scaled(2)),
        (UP_TO_DATE % "s1", 200, None),
        ("GET /nodes", 200, None),
        (UP_TO_DATE % "ID", 200, None),
    ],
    "service update --detach --env-add C=d s1": [
        INSPECT_S1,
        ("POST /services/ID/update?registryAuthFrom=spec&version=N", 200, with_env("C=d")),
    ],
    "service update --force s1": [
        INSPECT_S1,
        ("POST /services/ID/update?registryAuthFrom=spec&version=N", 200, forced),
        (UP_TO_DATE % "s1", 200, None),
        ("GET /nodes", 200, None),
    ],
    "service rollback --detach s1": [
        INSPECT_S1,
        ("POST /services/ID/update?version=N", 200, with_env("C=d")),
        INSPECT_S1,
        ("POST /services/ID/update?rollback=previous&version=N", 200, same),
    ],
    # not built yet: the peer answers 200
    "service logs s1": [INSPECT_S1, ("GET /services/s1/logs?details=1&stderr=1&stdout=1&tail=all", 501, None)],
    "secret create sec1 /etc/hostname": [("POST /secrets/create", 201, dependency("sec1"))],
    "secret ls": [("GET /secrets", 200, None)],
    "secret inspect sec0": [("GET /secrets/sec0", 200, None)],
    "secret rm sec0": [("DELETE /secrets/sec0", 204, None)],
    "config create cfg1 /etc/hostname": [("POST /configs/create", 201, dependency("cfg1"))],
    "config ls": [("GET /configs", 200, None)],
    "config inspect cfg0": [("GET /configs/cfg0", 200, None)],
    "config rm cfg0": [("DELETE /configs/cfg0", 204, None)],
    "service update --detach --secret-add sec0 --config-add cfg0 s1": [
        INSPECT_S1,
        ('GET /secrets?filters={"name":{"sec0":true}}', 200, None),
        ('GET /configs?filters={"name":{"cfg0":true}}', 200, None),
        ("POST /services/ID/update?registryAuthFrom=spec&version=N", 200, with_files),
    ],
    "stack deploy with a config": [
        ("GET /configs/st_c1", 404, None),
        ("POST /configs/create", 201, dependency("st_c1")),
        ('GET /configs?filters={"name":{"st_c1":true}}', 200, None),
    ],
    "stack rm st": [(f"GET /secrets?{STACK}", 200, None), (f"GET /configs?{STACK}", 200, None)],
    "network create -d overlay": [("POST /networks/create", 501, {"Name": "ov1", "Driver": "overlay"})],
    "swarm join-token worker": [("GET /swarm", 200, None), ("GET /info", 200, None), ("GET /nodes/ID", 200, None)],
    "swarm join-token --rotate worker": [
        ("GET /swarm", 200, None),
        (
            f"POST /swarm/update?{UNROTATED}&rotateWorkerToken=true&version=N",
            200,
            same,
        ),
        ("GET /info", 200, None),
        ("GET /nodes/ID", 200, None),
    ],
    "swarm update --task-history-limit 3": [
        ("GET /swarm", 200, None),
        (
            f"POST /swarm/update?{UNROTATED}&rotateWorkerToken=false&version=N",
            200,
            lambda spec: {**spec, "Orchestration": {"TaskHistoryRetentionLimit": 3}},
        ),
    ],
    "swarm ca": [("GET /swarm", 200, None)],
    "swarm update --autolock=true": [
        ("GET /swarm", 200, None),
        (f"POST /swarm/update?{UNROTATED}&rotateWorkerToken=false&version=N", 200, autolock),
        ("GET /swarm/unlockkey", 200, None),
    ],
    "swarm unlock-key": [("GET /swarm/unlockkey", 200, None)],
    "swarm unlock-key --rotate": [
        ("GET /swarm", 200, None),
        (f"POST /swarm/update?{UNROTATED}&rotateWorkerToken=false&version=N", 200, autolock),
        ("GET /swarm", 200, None),
        (f"POST /swarm/update?{ROTATED_KEY}&rotateWorkerToken=false&version=N", 200, same),
        ("GET /swarm/unlockkey", 200, None),
    ],
    "swarm unlock": [("GET /info", 200, None), ("POST /swarm/unlock", 409, {"UnlockKey": "SWMKEY-1-" + "A" * 43})],
    "stack ls": [('GET /services?filters={"label":{"com.docker.stack.namespace":true}}', 200, None)],
    "stack services st": [(f"GET /services?{STACK}&status=true", 200, None)],
    "stack ps st": [(f"GET /tasks?{STACK}", 200, None)],
    "service rm s1": [("DELETE /services/s1", 200, None)],
    "node demote": [("GET /nodes/n8-host", 200, None), ("POST /nodes/ID/update?version=N", 200, role("worker"))],
    "node promote": [("GET /nodes/n2-host", 200, None), ("POST /nodes/ID/update?version=N", 200, role("manager"))],
    "node rm": [("DELETE /nodes/n8-host", 400, None)],
    "swarm leave": [("POST /swarm/leave", 503, None)],
}


@pytest.fixture
async def swarm() -> Swarm:
    """Three managers, two workers, a service ``s1``, a secret ``sec0`` and a config ``cfg0``."""
    found = Swarm()
    for id_ in ("n7", "n8"):
        found.add(
            node(id_, role="manager", address=f"10.0.0.{id_[1:]}", manager_address=f"10.0.0.{id_[1:]}:2377"),
            NodeSpec(role=Role.MANAGER),
        )
        await found.store.add_member(id_, f"10.0.0.{id_[1:]}:2378", 1.0)
    hidden, plain = DependencySpec(name="sec0"), DependencySpec(name="cfg0")
    found.world.commit(
        Create(StoredSecret(id="idofsec0", spec=hidden, data=Secret(b"x"))),
        Create(StoredConfig(id="idofcfg0", spec=plain, data=Secret(b"x"))),
    )
    assert (await found.client.post("/services/create", S1)).status == 201
    found.run()
    return found


@pytest.mark.parametrize("command", COMMANDS)
async def test_docker(swarm: Swarm, command: str):
    session = Session(swarm.client)
    for line, status, body in COMMANDS[command]:
        await session.play("HEAD /_ping", 200)
        await session.play(line, status, body)


async def test_what_was_inspected_can_be_sent_back_unchanged_and_restarts_nothing(swarm: Swarm):
    before = set(swarm.store.view().tasks)
    session = Session(swarm.client)
    await session.play("GET /services/s1?insertDefaults=false", 200)
    await session.play("POST /services/ID/update?version=N", 200, same)
    swarm.run(10)
    assert set(swarm.store.view().tasks) == before


async def test_docker_py_creates_and_updates(swarm: Swarm):
    """The bodies are made by the library itself, with what it adds, leaves null and writes in lower case."""
    container = docker.types.ContainerSpec(
        "bb:1",
        command=["sleep", "1000"],
        env={"A": "b"},
        mounts=[docker.types.Mount("/data", "vol", type="volume"), "/etc:/host:ro"],
        healthcheck=docker.types.Healthcheck(test="true", interval=10**9),
        stop_grace_period=5 * 10**9,
    )
    task = docker.types.TaskTemplate(
        container,
        resources=docker.types.Resources(mem_limit=1 << 30, cpu_reservation=10**8),
        restart_policy=docker.types.RestartPolicy(condition="on-failure", max_attempts=3),
        placement=["node.role==worker"],
    )
    body = {
        "Name": "py",
        "Labels": None,
        "TaskTemplate": task,
        "Mode": docker.types.ServiceMode("replicated", 2),
        "Networks": None,
        "EndpointSpec": docker.types.EndpointSpec(ports={8080: (80, "tcp", "host")}),
    }
    created = await swarm.client.post("/services/create", body)
    assert created.status == 201, created
    shown = (await swarm.client.get("/services/py?insertDefaults=true")).json
    assert shown["Spec"]["Mode"] == {"Replicated": {"Replicas": 2}}
    assert shown["Spec"]["EndpointSpec"]["Ports"] == [port(8080, 80)]
    assert shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Mounts"][1]["Type"] == "bind"
    update = {**body, "UpdateConfig": docker.types.UpdateConfig(parallelism=2, failure_action="pause")}
    answer = await swarm.client.post(f"/services/py/update?version={shown['Version']['Index']}", update)
    assert answer.status == 200, answer


async def test_docker_py_lists(swarm: Swarm):
    filters = convert_filters({"service": "s1", "desired-state": "running"})
    answer = await swarm.client.get(f"/tasks?filters={filters}")
    assert answer.status == 200
    assert len(answer.json) == 2


async def test_docker_py_inits():
    """As ``APIClient.init_swarm`` writes it."""
    swarm = Swarm()
    body = {
        "AdvertiseAddr": None,
        "ListenAddr": "0.0.0.0:2377",
        "DataPathAddr": None,
        "DataPathPort": None,
        "DefaultAddrPool": None,
        "SubnetSize": None,
        "ForceNewCluster": False,
        "Spec": docker.types.SwarmSpec("1.41", task_history_retention_limit=3, dispatcher_heartbeat_period=10**9),
    }
    assert (await swarm.client.post("/swarm/init", body)).status == 200
