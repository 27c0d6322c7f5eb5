# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks to Docker Engine's JSON and back, as pure functions; never a call to an engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.executor.base import Container, ContainerState
from covey.model import units
from covey.model.changes import FORMAT
from covey.model.codec import to_plain
from covey.model.objects import EngineFacts, NodeDescription, Task
from covey.model.spec import ContainerSpec, HealthConfig, Mount, PortConfig, Resources

TASK_LABEL = "covey.task.id"
NODE_LABEL = "covey.node.id"
CLUSTER_LABEL = "covey.cluster.id"
#: How much of a health check's output is shown to a person.
OUTPUT_LIMIT = 300

Json = dict[str, Any]

_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "removing": ContainerState.EXITED,
    "exited": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers these are; written on each."""

    node_id: str
    cluster_id: str


def stop_grace(spec: ContainerSpec) -> float:
    """Seconds between the stop signal and the kill."""
    return units.seconds(ContainerSpec.DEFAULT_STOP_GRACE if spec.stop_grace_period is None else spec.stop_grace_period)


def labels(task: Task, owner: Owner) -> dict[str, str]:
    """The user's labels, the peer's and ours; ours win, so that nobody can claim a container that is not theirs."""
    return {
        **(task.spec.container_spec.labels or {}),
        "com.docker.swarm.node.id": owner.node_id,
        "com.docker.swarm.service.id": task.service_id,
        "com.docker.swarm.service.name": task.service_name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": task.id,
        "com.docker.swarm.task.name": task.name,
        CLUSTER_LABEL: owner.cluster_id,
        NODE_LABEL: owner.node_id,
        "covey.service.id": task.service_id,
        TASK_LABEL: task.id,
    }


def container_config(task: Task, owner: Owner) -> Json:
    """The body of the engine's create call."""
    spec, ports = task.spec.container_spec, _host_ports(task.ports)
    config: Json = {
        "Image": spec.image,
        "Labels": labels(task, owner),
        "Entrypoint": spec.command,
        "Cmd": spec.args,
        "Env": spec.env,
        "User": spec.user,
        "Hostname": spec.hostname,
        "StopSignal": spec.stop_signal,
        "StopTimeout": math.ceil(stop_grace(spec)),
        "Healthcheck": _health(spec.healthcheck),
        "ExposedPorts": {key: {} for key in ports} or None,
        "HostConfig": _host_config(task, ports),
    }
    return {key: value for key, value in config.items() if value is not None}


def _host_config(task: Task, ports: Json) -> Json:
    return {
        # Tasks run once; what should run next is the managers' decision, not the engine's.
        "RestartPolicy": {"Name": "no"},
        "Mounts": [_mount(mount) for mount in task.spec.container_spec.mounts or ()],
        "PortBindings": ports,
        **_resources(task.spec.resources or Resources()),
    }


def _mount(mount: Mount) -> Json:
    return {"Type": str(mount.type), **to_plain(mount)}


def _health(check: HealthConfig | None) -> Json | None:
    return None if check is None else to_plain(check)


def _host_ports(ports: tuple[PortConfig, ...]) -> Json:
    """``{"80/tcp": [{"HostPort": "8080"}]}``; an empty host port lets the engine choose."""
    bindings: dict[str, list[Json]] = {}
    for port in ports:
        published = str(port.published_port) if port.published_port else ""
        bindings.setdefault(f"{port.target_port}/{port.protocol or 'tcp'}", []).append({"HostPort": published})
    return bindings


def _resources(resources: Resources) -> Json:
    """Limits are enforced; of the reservations the kernel knows memory's, the scheduler alone counts CPUs."""
    limit, reserved, config = resources.limits, resources.reservations, Json()
    memory = limit.memory_bytes if limit else None
    if limit and limit.nano_cpus:
        config["NanoCpus"] = limit.nano_cpus
    if memory:
        config["Memory"] = memory
    if reserved and reserved.memory_bytes and (not memory or reserved.memory_bytes <= memory):
        config["MemoryReservation"] = reserved.memory_bytes
    return config


def container(shown: Json) -> Container:
    """The engine's inspect answer."""
    state = shown["State"]
    exited = _STATES[state["Status"]] is ContainerState.EXITED
    health = state.get("Health") or {}
    network = shown.get("NetworkSettings") or {}
    bindings = network.get("Ports") or {}
    return Container(
        id=shown["Id"],
        task_id=shown["Config"]["Labels"][TASK_LABEL],
        name=shown["Name"].removeprefix("/"),
        state=_STATES[state["Status"]],
        pid=state.get("Pid") or 0,
        exit_code=state.get("ExitCode") if exited else None,
        error=state.get("Error") or "",
        oom_killed=bool(state.get("OOMKilled")),
        health=_health_status(health),
        health_output=_last_output(health),
        ports=_open_ports(bindings),
        open_to_all=_open_ports(_on_every_address(bindings)),
        address=network.get("IPAddress") or "",
        started_at=state.get("StartedAt") or "",
        finished_at=state.get("FinishedAt") or "",
    )


def _health_status(health: Json) -> str | None:
    status = health.get("Status")
    return None if status in (None, "", "none") else str(status)


def _last_output(health: Json) -> str:
    runs = health.get("Log") or [{}]
    return str(runs[-1].get("Output") or "").strip()[:OUTPUT_LIMIT]


def _open_ports(bindings: Mapping[str, list[Json] | None]) -> tuple[PortConfig, ...]:
    """Each once, though the engine lists it for IPv4 and for IPv6."""
    found: dict[tuple[str, str], PortConfig] = {}
    for key, hosts in bindings.items():
        target, _, protocol = key.partition("/")
        for host in hosts or ():
            found[key, host["HostPort"]] = PortConfig(
                protocol=protocol,
                target_port=int(target),
                published_port=int(host["HostPort"]),
                publish_mode="host",
            )
    return tuple(found[key] for key in sorted(found))


def _on_every_address(bindings: Mapping[str, list[Json] | None]) -> dict[str, list[Json] | None]:
    return {
        key: [host for host in hosts or () if host.get("HostIp", "") in ("", "0.0.0.0")]  # noqa: S104 - read, not bound
        for key, hosts in bindings.items()
    }


def description(info: Json, version: Json, agent_version: str) -> NodeDescription:
    """The engine's ``info`` and ``version`` answers."""
    plugins = info.get("Plugins") or {}
    return NodeDescription(
        hostname=info["Name"],
        architecture=info["Architecture"],
        os=info["OSType"],
        nano_cpus=info["NCPU"] * units.NANO_CPUS,
        memory_bytes=info["MemTotal"],
        engine=EngineFacts(
            version=info["ServerVersion"],
            api_version=version["ApiVersion"],
            labels=_engine_labels(info.get("Labels") or ()),
            plugins=tuple((kind, name) for kind in sorted(plugins) for name in sorted(plugins[kind] or ())),
        ),
        agent_version=agent_version,
        state_format=FORMAT,
    )


def _engine_labels(pairs: list[str] | tuple[()]) -> dict[str, str]:
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def problems(info: Json) -> list[str]:
    """Why this engine cannot serve a node, one sentence each."""
    found = []
    if info.get("OSType") != "linux":
        found.append(f"the container engine runs {info.get('OSType')} containers; Covey needs a Linux engine")
    if "name=rootless" in (info.get("SecurityOptions") or ()):
        found.append(
            "the container engine runs rootless, which cannot publish ports and limit resources as services need; "
            "run dockerd as root"
        )
    state = (info.get("Swarm") or {}).get("LocalNodeState") or "inactive"
    if state != "inactive":
        found.append(
            f"the container engine's own swarm mode is {state}; leave that swarm first (docker swarm leave), "
            "as two orchestrators on one engine would fight over it"
        )
    return found
