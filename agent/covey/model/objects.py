# SPDX-License-Identifier: GPL-3.0-or-later
"""What the managers store: clusters, nodes, services, tasks, secrets and configs, desired and observed side by side.

``version`` is the log index of the last write by a manager or a user; observations (task status, node status) do not
move it, so that a person's update never loses a race against a heartbeat.  Times are unix seconds; 0 means never.
"""

from __future__ import annotations

from enum import StrEnum
from typing import dataclass_transform

import msgspec

from covey.model.secret import Secret
from covey.model.spec import (
    Availability,
    ClusterSpec,
    DependencySpec,
    NodeSpec,
    PortConfig,
    Role,
    ServiceSpec,
    TaskSpec,
)
from covey.model.tasks import TaskState


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything stored; decoding ignores unknown fields, so that a newer release's record can be read."""


class Object(Record, kw_only=True):
    """A record with an identity of its own."""

    id: str
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


class NodeState(StrEnum):
    UNKNOWN = "unknown"
    DOWN = "down"
    READY = "ready"
    DISCONNECTED = "disconnected"


class RootRotation(Record, kw_only=True):
    """A root on its way in: new certificates are signed by it, and it replaces the old one once every node has moved.

    ``cross_certificate`` is the new root's name and key signed by the old root, by which nodes that only trust that one
    accept certificates of the new one.  ``issuer_*`` (DER) name the new root.  The tokens are those from then on.
    ``told``: the nodes asked so far to move, the last of them at ``told_at``.
    """

    certificate: bytes
    key: Secret = Secret(b"")
    cross_certificate: bytes = b""
    issuer_subject: bytes
    issuer_public_key: bytes
    worker_token: Secret
    manager_token: Secret
    started_at: float = 0.0
    told: tuple[str, ...] = ()
    told_at: float = 0.0


class Cluster(Object, kw_only=True):
    """The one object that says what this cluster is.  Its secrets never leave the managers.

    ``epoch`` is when it was last recovered or restored, in unix seconds; 0 for a cluster still in its first life.
    ``unlock_key`` is what the managers' disks are locked with, empty while they are not; ``unlock_key_version`` counts
    the keys there have been.
    """

    spec: ClusterSpec = ClusterSpec()
    root_certificate: bytes = b""
    root_key: Secret = Secret(b"")
    worker_token: Secret = Secret(b"")
    manager_token: Secret = Secret(b"")
    rotation: RootRotation | None = None
    epoch: int = 0
    unlock_key: Secret = Secret(b"")
    unlock_key_version: int = 0


class EngineFacts(Record, kw_only=True):
    """What the container engine of a node says of itself."""

    version: str = ""
    api_version: str = ""
    labels: dict[str, str] = {}
    plugins: tuple[tuple[str, str], ...] = ()  # (type, name), e.g. ("Volume", "local")


class NodeTLS(Record, kw_only=True):
    """What a node says of its certificate: whom it trusts (PEM, one or more), and who signed it (DER)."""

    trust_root: bytes = b""
    issuer_subject: bytes = b""
    issuer_public_key: bytes = b""


class NodeDescription(Record, kw_only=True):
    """What a node's worker says of its host."""

    hostname: str = ""
    architecture: str = ""
    os: str = ""
    nano_cpus: int = 0
    memory_bytes: int = 0
    engine: EngineFacts = EngineFacts()
    agent_version: str = ""
    state_format: int = 1  # the newest format of the managers' state that its agent reads
    tls: NodeTLS = NodeTLS()


class NodeStatus(Record, kw_only=True):
    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    address: str = ""  # as the manager sees it
    since: float = 0.0
    back_by: float = 0.0  # its agent restarts, or a new epoch began: until then silence means nothing


class Node(Object, kw_only=True):
    """A host of the cluster.  ``role`` is what its certificate says; ``spec.role`` what it should become.

    ``manager_address`` is ``host:2377`` of a manager that is a member of the Raft group, else empty.
    ``joined_with`` is the digest of the key it was let in with, so that a repeated request finds the same node.
    """

    spec: NodeSpec = NodeSpec()
    role: Role = Role.WORKER
    description: NodeDescription = NodeDescription()
    status: NodeStatus = NodeStatus()
    manager_address: str = ""
    joined_with: str = ""

    @property
    def schedulable(self) -> bool:
        """New tasks may be put here."""
        return self.status.state is NodeState.READY and self.spec.availability is Availability.ACTIVE


class UpdateState(StrEnum):
    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"


class UpdateStatus(Record, kw_only=True):
    state: UpdateState
    started_at: float = 0.0
    completed_at: float = 0.0
    message: str = ""


class Service(Object, kw_only=True):
    """What should run.  ``version`` moves with each declared spec, so it also names the spec."""

    spec: ServiceSpec
    previous_spec: ServiceSpec | None = None
    update_status: UpdateStatus | None = None

    @property
    def is_global(self) -> bool:
        """One task on each node, instead of a number of replicas."""
        return self.spec.mode is not None and self.spec.mode.global_ is not None

    @property
    def replicas(self) -> int:
        """The number of slots of a replicated service."""
        mode = self.spec.mode.replicated if self.spec.mode else None
        return 1 if mode is None or mode.replicas is None else mode.replicas


class ContainerStatus(Record, kw_only=True):
    container_id: str = ""
    pid: int = 0
    exit_code: int | None = None


class TaskStatus(Record, kw_only=True):
    """What is known of a task: by the managers up to ASSIGNED, by its worker from then on.  ``err`` is for a person."""

    state: TaskState = TaskState.NEW
    timestamp: float = 0.0
    message: str = ""
    err: str = ""
    container: ContainerStatus | None = None
    ports: tuple[PortConfig, ...] = ()  # open on the node while it runs, those the engine chose included


class Task(Object, kw_only=True):
    """One attempt to run one copy of a service on one node; never moved, never run twice.

    ``slot`` is 1 and up for replicated services, 0 for global ones, whose tasks are told apart by ``node_id``.
    ``service_version`` is that of the service whose spec this task was made from.
    ``start_at``: not to be set to RUNNING before; ``restarts``: when the restarts of this slot happened under this
    spec, newest last, bounded by the planner that writes it.
    """

    service_id: str
    service_name: str
    service_version: int = 0
    slot: int = 0
    node_id: str = ""
    spec: TaskSpec = TaskSpec()
    service_labels: dict[str, str] | None = None
    ports: tuple[PortConfig, ...] = ()
    status: TaskStatus = TaskStatus()
    desired_state: TaskState = TaskState.RUNNING
    start_at: float = 0.0
    restarts: tuple[float, ...] = ()
    replaces: str = ""  # the task whose place this one takes: it starts once that one has stopped
    running_at: float = 0.0  # when the managers, by their clock, first saw it running; written by apply alone
    ended_at: float = 0.0  # when they first saw it over; written by apply alone

    @property
    def name(self) -> str:
        """The container's name, as with the peer."""
        return f"{self.service_name}.{self.slot or self.node_id}.{self.id}"


class Dependency(Object, kw_only=True):
    """One value of a secret or config.  An id names one value for ever: a new value is a new object under the name.

    ``number`` counts the values of the name from 1.  A ``retired`` one has lost the name to a newer value, and stays
    for tasks and rollbacks that refer to its id.
    """

    spec: DependencySpec
    data: Secret = Secret(b"")
    number: int = 1
    retired: bool = False


class StoredSecret(Dependency, kw_only=True):
    """Its data leaves the managers only for nodes that run a task which refers to it, and is shown to nobody."""


class StoredConfig(Dependency, kw_only=True):
    """Its data is delivered alike, and shown to whoever may ask a manager."""


KINDS: dict[str, type[Object]] = {
    "cluster": Cluster,
    "secret": StoredSecret,
    "config": StoredConfig,
    "node": Node,
    "service": Service,
    "task": Task,
}
_KIND_OF = {type_: kind for kind, type_ in KINDS.items()}


def kind_of(thing: Object) -> str:
    """``node`` for a Node, and so on."""
    return _KIND_OF[type(thing)]
