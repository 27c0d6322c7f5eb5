# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as the peer's JSON: its names, its times, and what is not set left out.  Pure.

Never in it: who may see what; a join token is shown by ``cluster_with_tokens`` alone, the data of a secret by nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

from covey.api import specs
from covey.api.ports import LocalState, NodeReport
from covey.api.specs import Json
from covey.control.authority import wanted_root
from covey.control.cluster import join_token
from covey.model.objects import (
    Cluster,
    Dependency,
    Node,
    Object,
    Service,
    StoredConfig,
    Task,
    TaskStatus,
    UpdateStatus,
)
from covey.model.spec import Role, ServiceSpec, TaskSpec
from covey.model.tasks import TaskState
from covey.model.units import rfc3339
from covey.plan.placement.constraint import fits
from covey.security.certificate import issuer_info
from covey.state.view import View

#: Of the overlay network, which takes them from here when it is built.
ADDRESSES = {"DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24, "DataPathPort": 4789}
REACHABLE, UNREACHABLE, UNKNOWN = "reachable", "unreachable", "unknown"


def meta(thing: Object) -> Json:
    """What every object begins with."""
    return {
        "ID": thing.id,
        "Version": {"Index": thing.version},
        "CreatedAt": rfc3339(thing.created_at),
        "UpdatedAt": rfc3339(thing.updated_at),
    }


def given(**fields: Any) -> Json:
    """Those of the fields that say anything."""
    return {name: value for name, value in fields.items() if value}


# -- clusters


@lru_cache(maxsize=4)
def tls_info(root_pem: bytes, wanted_pem: bytes) -> Json:
    """The cluster's authority: the root that counts, and who is to sign every certificate."""
    if not root_pem:
        return {}
    issuer = issuer_info(wanted_pem)
    return _tls_info(root_pem, issuer.subject, issuer.public_key)


def _tls_info(root_pem: bytes, subject: bytes, public_key: bytes) -> Json:
    return given(
        TrustRoot=root_pem.decode(),
        CertIssuerSubject=base64.b64encode(subject).decode(),
        CertIssuerPublicKey=base64.b64encode(public_key).decode(),
    )


def cluster(thing: Cluster) -> Json:
    """The cluster, as every manager's ``info`` shows it."""
    return {
        **meta(thing),
        "Spec": specs.cluster(thing.spec),
        "TLSInfo": tls_info(thing.root_certificate, wanted_root(thing)),
        "RootRotationInProgress": thing.rotation is not None,
        **ADDRESSES,
    }


def cluster_with_tokens(thing: Cluster) -> Json:
    """The cluster with what lets others join it."""
    tokens = {
        "Worker": join_token(thing, Role.WORKER),
        "Manager": join_token(thing, Role.MANAGER),
    }
    return {**cluster(thing), "JoinTokens": tokens}


def swarm_section(report: NodeReport, view: View | None) -> Json:
    """``Swarm`` of ``info``: what this node knows, and on a manager (``view``) what the cluster is."""
    managers = {each.node_id: each.addr for each in report.managers}
    if view is not None:
        managers = {each.id: each.manager_address for each in view.nodes.values() if each.manager_address}
    known = [{"NodeID": node_id, "Addr": address} for node_id, address in sorted(managers.items())]
    section: Json = {
        "NodeID": report.node_id,
        "NodeAddr": report.advertise_addr,
        "LocalNodeState": str(report.state),
        "ControlAvailable": view is not None,
        "Error": report.error,
        "RemoteManagers": known or None,
    }
    if view is not None:
        section |= {"Nodes": len(view.nodes), "Managers": len(managers)}
        section |= given(Cluster=next(map(cluster, view.clusters.values()), None))
    return section


def swarm_header(report: NodeReport, manages: bool) -> str:
    """The ``Swarm`` header of ``_ping``."""
    if report.state is not LocalState.ACTIVE:
        return str(report.state)
    return "active/manager" if manages else "active/worker"


# -- nodes


def node(thing: Node, leader: str | None, reachable: Collection[str] | None) -> Json:
    """A node; ``leader`` is the id of the one that leads, ``reachable`` who answers it, None if that is not known."""
    role = {"Role": str(thing.spec.role), "Availability": str(thing.spec.availability)}
    shown: Json = {
        **meta(thing),
        "Spec": {"Labels": {}, **given(Name=thing.spec.name), **given(Labels=thing.spec.labels), **role},
        "Description": _description(thing),
        "Status": {
            "State": str(thing.status.state),
            **given(Message=thing.status.message, Addr=thing.status.address),
        },
    }
    if thing.manager_address:
        leads = given(Leader=thing.id == leader)
        shown["ManagerStatus"] = {
            **leads,
            "Reachability": reachability(thing, reachable),
            "Addr": thing.manager_address,
        }
    return shown


def reachability(thing: Node, reachable: Collection[str] | None) -> str:
    """Whether a manager's store answers the leader's."""
    if reachable is None:
        return UNKNOWN
    return REACHABLE if thing.id in reachable else UNREACHABLE


def _description(thing: Node) -> Json:
    host, engine, tls = thing.description, thing.description.engine, thing.description.tls
    plugins = [{"Type": kind, "Name": name} for kind, name in engine.plugins]
    return {
        "Hostname": host.hostname,
        "Platform": given(Architecture=host.architecture, OS=host.os),
        "Resources": given(NanoCPUs=host.nano_cpus, MemoryBytes=host.memory_bytes),
        "Engine": given(EngineVersion=engine.version, Labels=engine.labels, Plugins=plugins),
        "TLSInfo": _tls_info(tls.trust_root, tls.issuer_subject, tls.issuer_public_key),
    }


# -- services


def service(thing: Service, insert_defaults: bool = False) -> Json:
    """A service."""
    show = specs.whole_service if insert_defaults else specs.declared_service
    shown = {**meta(thing), "Spec": show(thing.spec), "Endpoint": _endpoint(thing.spec)}
    if thing.previous_spec is not None:
        shown["PreviousSpec"] = show(thing.previous_spec)
    if thing.update_status is not None:
        shown["UpdateStatus"] = _update_status(thing.update_status)
    return shown


def _endpoint(spec: ServiceSpec) -> Json:
    if spec.endpoint_spec is None:
        return {"Spec": {}}
    shown = specs.declared_service(spec)["EndpointSpec"]
    return {"Spec": shown, **given(Ports=shown.get("Ports"))}


def _update_status(status: UpdateStatus) -> Json:
    times = {"StartedAt": status.started_at, "CompletedAt": status.completed_at}
    shown = {name: rfc3339(moment) for name, moment in times.items() if moment}
    return {"State": str(status.state), **shown, "Message": status.message}


def service_status(thing: Service, view: View) -> Json:
    """How many tasks run, and how many should."""
    running = sum(task.status.state is TaskState.RUNNING for task in view.tasks_of(thing.id))
    return {"RunningTasks": running, "DesiredTasks": desired_tasks(thing, view), "CompletedTasks": 0}


def desired_tasks(thing: Service, view: View) -> int:
    """How many tasks should run: the replicas, or one on each node that takes tasks and fits."""
    if not thing.is_global:
        return thing.replicas
    template = thing.spec.task_template
    return sum(each.schedulable and fits(template, each) for each in view.nodes.values())


# -- secrets and configs


def dependency(thing: Dependency) -> Json:
    """A secret, without its data, or a config, with it."""
    spec: Json = {"Name": thing.spec.name, "Labels": thing.spec.labels or {}}
    if isinstance(thing, StoredConfig):
        spec["Data"] = base64.b64encode(thing.data.reveal()).decode()
    if thing.spec.templating is not None:
        spec["Templating"] = specs.plain(thing.spec.templating)
    return {**meta(thing), "Spec": spec}


def dependency_value(thing: Dependency) -> Json:
    """One of the values of a name, without its data."""
    return {**meta(thing), "Number": thing.number, "Current": not thing.retired}


# -- tasks


def tasks(things: Iterable[Task]) -> list[Json]:
    """Many tasks; those made from one version of a service share one spec, which is rendered once."""
    rendered: dict[tuple[str, int], tuple[Json, list[Json]]] = {}
    return [_task(thing, rendered) for thing in things]


def task(thing: Task) -> Json:
    """A task."""
    return _task(thing, {})


def _task(thing: Task, rendered: dict[tuple[str, int], tuple[Json, list[Json]]]) -> Json:
    origin = thing.service_id, thing.service_version
    if origin not in rendered:
        rendered[origin] = task_spec(thing.spec), specs.plain(thing.ports)
    spec, ports = rendered[origin]
    return {
        **meta(thing),
        "Labels": {},
        "Spec": spec,
        "ServiceID": thing.service_id,
        **given(Slot=thing.slot, NodeID=thing.node_id),
        "Status": _task_status(thing.status, ports if thing.status.state is TaskState.RUNNING else []),
        "DesiredState": str(thing.desired_state),
    }


def task_spec(spec: TaskSpec) -> Json:
    """A task's spec, as a service shows it as its template."""
    return specs.over(specs.SHOWN_SERVICE["TaskTemplate"], specs.plain(spec))


def _task_status(status: TaskStatus, ports: list[Json]) -> Json:
    shown: Json = {"Timestamp": rfc3339(status.timestamp), "State": str(status.state)}
    shown |= given(Message=status.message, Err=status.err)
    if status.container is not None:
        seen = status.container
        shown["ContainerStatus"] = {"ContainerID": seen.container_id, "PID": seen.pid, "ExitCode": seen.exit_code or 0}
    shown["PortStatus"] = given(Ports=ports)
    return shown
