# SPDX-License-Identifier: GPL-3.0-or-later
"""Short words for objects in tests of the pure rooms."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import msgspec

from covey.model.changes import Batch, Change
from covey.model.objects import (
    EngineFacts,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    NodeTLS,
    Object,
    Service,
    Task,
)
from covey.model.objects import TaskStatus as Status
from covey.model.spec import (
    Availability,
    ContainerSpec,
    EndpointSpec,
    Global,
    NodeSpec,
    Placement,
    PortConfig,
    Replicated,
    Reservation,
    Resources,
    RestartPolicy,
    Role,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from covey.model.tasks import TaskState as S
from covey.state.apply import apply
from covey.state.codec import restore
from covey.state.view import View

replace = msgspec.structs.replace
MIB = 1 << 20


def node(id_: str, **parts: Any) -> Node:
    """A ready, active worker with 4 CPUs and 1 GiB; ``labels``, ``availability``, ``state``, ``role`` and so on."""
    spec = NodeSpec(labels=parts.pop("labels", None), availability=parts.pop("availability", Availability.ACTIVE))
    description = NodeDescription(
        hostname=parts.pop("hostname", id_ + "-host"),
        architecture=parts.pop("architecture", "x86_64"),
        os=parts.pop("os", "linux"),
        nano_cpus=parts.pop("cpus", 4) * 10**9,
        memory_bytes=parts.pop("memory", 1024) * MIB,
        engine=EngineFacts(labels=parts.pop("engine_labels", {})),
        tls=parts.pop("tls", NodeTLS()),
    )
    status = NodeStatus(
        state=NodeState(parts.pop("state", "ready")),
        address=parts.pop("address", ""),
        since=parts.pop("since", 0.0),
        back_by=parts.pop("back_by", 0.0),
    )
    role = Role(parts.pop("role", "worker"))
    return Node(id=id_, spec=spec, description=description, status=status, role=role, **{"version": 1, **parts})


def template(image: str = "busybox:1", **parts: Any) -> TaskSpec:
    """A task template; ``memory`` (MiB reserved), ``cpus``, ``constraints``, ``platforms``, ``policy``, ``grace``."""
    memory, cpus = parts.pop("memory", 0), parts.pop("cpus", 0)
    reserved = Reservation(memory_bytes=memory * MIB or None, nano_cpus=int(cpus * 10**9) or None)
    constraints, platforms = parts.pop("constraints", None), parts.pop("platforms", None)
    policy = parts.pop("policy", None)
    return TaskSpec(
        container_spec=ContainerSpec(image=image, stop_grace_period=parts.pop("grace", None)),
        resources=Resources(reservations=reserved) if memory or cpus else None,
        placement=Placement(constraints=constraints, platforms=platforms) if constraints or platforms else None,
        restart_policy=RestartPolicy(**policy) if policy is not None else None,
        **parts,
    )


def spec(name: str = "web", replicas: int | None = 3, **parts: Any) -> ServiceSpec:
    """A service's spec, global if ``replicas`` is None; ``ports`` (published), ``parallelism``, and the template's."""
    ports, parallelism = parts.pop("ports", ()), parts.pop("parallelism", None)
    published = [PortConfig(protocol="tcp", target_port=80, published_port=p, publish_mode="host") for p in ports]
    mode = ServiceMode(global_=Global()) if replicas is None else ServiceMode(replicated=Replicated(replicas=replicas))
    return ServiceSpec(
        name=name,
        labels=parts.pop("labels", None),
        mode=mode,
        task_template=template(**parts),
        endpoint_spec=EndpointSpec(ports=published) if published else None,
        update_config=None if parallelism is None else UpdateConfig(parallelism=parallelism),
    )


def service(name: str = "web", replicas: int | None = 3, **parts: Any) -> Service:
    """A service whose id is ``s-`` and its name."""
    fields = {key: parts.pop(key) for key in ("version", "update_status") if key in parts}
    return Service(id=f"s-{name}", spec=spec(name, replicas, **parts), **{"version": 1, **fields})


def task(of: Service, slot: int | str, state: S = S.RUNNING, **parts: Any) -> Task:
    """A task of that service as its spec has it, in a slot or on a global service's node; ``on`` is a node id."""
    on = parts.pop("on", slot if isinstance(slot, str) else "")
    ports = of.spec.endpoint_spec.ports if of.spec.endpoint_spec else None
    fields = {
        "id": f"t{slot}",
        "version": 1,
        "service_version": of.version,
        "spec": of.spec.task_template,
        "ports": tuple(ports or ()),
        "status": Status(state=state, timestamp=parts.pop("at", 0.0), err=parts.pop("err", "")),
    }
    number = slot if isinstance(slot, int) else 0
    name = of.spec.name
    return Task(service_id=of.id, service_name=name, slot=number, node_id=on, **{**fields, **parts})


def view(*things: Object | Iterable[Object], index: int = 10) -> View:
    """A view that holds those objects with their versions as they are."""
    flat = [each for thing in things for each in (thing if isinstance(thing, Iterable) else [thing])]
    return restore(index, 0, {}, flat)


def after(before: View, *changes: Change, at: float = 0.0) -> View:
    """The view after those changes, which must hold."""
    result, outcome = apply(before, Batch(request_id="", at=at, changes=changes), before.index + 1)
    assert outcome.error is None, outcome.error
    return result


class Ids:
    """``new``, ids that can be told from others and sorted by age."""

    def __init__(self, prefix: str = "new") -> None:
        self._prefix, self._numbers = prefix, count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._numbers):04d}"
