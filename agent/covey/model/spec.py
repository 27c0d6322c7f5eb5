# SPDX-License-Identifier: GPL-3.0-or-later
"""THE list of what a user may declare, with Docker's field names, defaults and units.

A field stands here once: its wire name, type and default follow from the declaration.  ``None`` means "not sent", and
is left out again when the spec is shown.  Fields of the peer that Covey does not act on yet are named in each class's
``LATER``: an empty value or the peer's default is accepted, anything else is refused with its path (``refusals``).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, dataclass_transform, get_args

import msgspec
from msgspec import field

from covey.model import units
from covey.model.secret import Secret


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True, forbid_unknown_fields=True):
    """Base of everything a user declares."""

    #: wire name -> values accepted besides empty ones, for fields not acted on yet
    LATER: ClassVar[dict[str, tuple[object, ...]]] = {}


class Role(StrEnum):
    """What a node is: a manager also works."""

    WORKER = "worker"
    MANAGER = "manager"


class Availability(StrEnum):
    """Whether the scheduler may use a node."""

    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class RestartCondition(StrEnum):
    """After which ends a task is replaced."""

    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class MountType(StrEnum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class BindOptions(Spec):
    LATER = {"NonRecursive": (), "CreateMountpoint": (), "ReadOnlyNonRecursive": (), "ReadOnlyForceRecursive": ()}
    propagation: str | None = None


class DriverConfig(Spec):
    name: str | None = None
    options: dict[str, str] | None = None


class VolumeOptions(Spec):
    LATER = {"Subpath": ()}
    no_copy: bool | None = None
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None


class TmpfsOptions(Spec):
    LATER = {"Options": ()}
    size_bytes: int | None = None
    mode: int | None = None


class Mount(Spec):
    LATER = {"Consistency": ("default",), "ClusterOptions": (), "ImageOptions": ()}
    type: MountType = MountType.BIND
    source: str | None = None
    target: str = ""
    read_only: bool | None = None
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HealthConfig(Spec):
    """``test``: ``[]`` inherits the image's, ``["NONE"]`` disables, ``["CMD", ...]``, ``["CMD-SHELL", text]``."""

    LATER = {"StartInterval": ()}
    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    retries: int | None = None


class FileTarget(Spec):
    """Where in a container a secret or config is, and whose it is; a relative name is in its kind's own directory."""

    DEFAULT_MODE: ClassVar[int] = 0o444

    name: str = ""
    uid: str | None = field(default=None, name="UID")
    gid: str | None = field(default=None, name="GID")
    mode: int | None = None


class SecretReference(Spec):
    """``secret_id`` names one value for ever, ``secret_name`` whichever value has that name; both are stored."""

    file: FileTarget | None = None
    secret_id: str | None = field(default=None, name="SecretID")
    secret_name: str | None = None


class ConfigReference(Spec):
    """As ``SecretReference``."""

    LATER = {"Runtime": ()}
    file: FileTarget | None = None
    config_id: str | None = field(default=None, name="ConfigID")
    config_name: str | None = None


class ContainerSpec(Spec):
    LATER = {
        "Dir": (), "Groups": (), "Privileges": (), "Init": (), "TTY": (), "OpenStdin": (), "ReadOnly": (), "Hosts": (),
        "DNSConfig": (), "Isolation": ("default",), "PidsLimit": (), "Sysctls": (),
        "CapabilityAdd": (), "CapabilityDrop": (), "Ulimits": (), "OomScoreAdj": (),
    }  # fmt: skip
    DEFAULT_STOP_GRACE: ClassVar[int] = 10 * units.SECOND

    image: str = ""
    labels: dict[str, str] | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    hostname: str | None = None
    env: list[str] | None = None
    user: str | None = None
    mounts: list[Mount] | None = None
    stop_signal: str | None = None
    stop_grace_period: int | None = None
    healthcheck: HealthConfig | None = None
    secrets: list[SecretReference] | None = None
    configs: list[ConfigReference] | None = None


class Limit(Spec):
    LATER = {"Pids": ()}
    nano_cpus: int | None = field(default=None, name="NanoCPUs")
    memory_bytes: int | None = None


class Reservation(Spec):
    LATER = {"GenericResources": ()}
    nano_cpus: int | None = field(default=None, name="NanoCPUs")
    memory_bytes: int | None = None


class Resources(Spec):
    LATER = {"SwapBytes": (), "MemorySwappiness": ()}
    limits: Limit | None = None
    reservations: Reservation | None = None


class RestartPolicy(Spec):
    """``delay`` unset: the first restart at once, then growing pauses; set: obeyed to the letter."""

    condition: RestartCondition | None = None
    delay: int | None = None
    max_attempts: int | None = None
    window: int | None = None


class Platform(Spec):
    architecture: str | None = None
    os: str | None = field(default=None, name="OS")


class Placement(Spec):
    LATER = {"Preferences": (), "MaxReplicas": ()}
    constraints: list[str] | None = None
    platforms: list[Platform] | None = None


class TaskSpec(Spec):
    LATER = {
        "PluginSpec": (), "NetworkAttachmentSpec": (), "Runtime": ("container",), "Networks": (), "LogDriver": (),
    }  # fmt: skip

    container_spec: ContainerSpec = ContainerSpec()
    resources: Resources | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None
    force_update: int | None = None


class Replicated(Spec):
    replicas: int | None = None


class Global(Spec):
    pass


class ServiceMode(Spec):
    LATER = {"ReplicatedJob": (), "GlobalJob": ()}
    replicated: Replicated | None = None
    global_: Global | None = field(default=None, name="Global")


class UpdateConfig(Spec):
    LATER = {
        "Delay": (),
        "FailureAction": ("pause",),
        "Monitor": (5 * units.SECOND,),
        "MaxFailureRatio": (),
        "Order": ("stop-first",),
    }
    parallelism: int | None = None


class RollbackConfig(Spec):
    LATER = {**UpdateConfig.LATER, "Parallelism": (1,)}


class PortConfig(Spec):
    LATER = {"Name": ()}
    protocol: str | None = None
    target_port: int = 0
    published_port: int | None = None
    publish_mode: str | None = None


class EndpointSpec(Spec):
    LATER = {"Mode": ("vip",)}
    ports: list[PortConfig] | None = None


class ServiceSpec(Spec):
    LATER = {"Networks": ()}
    name: str = ""
    labels: dict[str, str] | None = None
    task_template: TaskSpec = TaskSpec()
    mode: ServiceMode | None = None
    update_config: UpdateConfig | None = None
    rollback_config: RollbackConfig | None = None
    endpoint_spec: EndpointSpec | None = None


class DependencySpec(Spec):
    """Of a secret or a config, all but its data."""

    LATER = {"Driver": ()}
    name: str = ""
    labels: dict[str, str] | None = None
    templating: DriverConfig | None = None


class NodeSpec(Spec):
    name: str | None = None
    labels: dict[str, str] | None = None
    role: Role = Role.WORKER
    availability: Availability = Availability.ACTIVE


class Orchestration(Spec):
    task_history_retention_limit: int | None = None


class Dispatcher(Spec):
    heartbeat_period: int | None = None


class CAProtocol(StrEnum):
    """What an authority outside of the cluster speaks."""

    CFSSL = "cfssl"


class ExternalCA(Spec):
    """An authority outside of the cluster that signs under the root ``ca_cert`` (PEM); left out, the present root."""

    LATER = {"Options": ()}
    protocol: CAProtocol = CAProtocol.CFSSL
    url: str = field(default="", name="URL")
    ca_cert: str | None = field(default=None, name="CACert")


class CAConfig(Spec):
    """``signing_ca_*`` ask for a given root and ``force_rotate``, whenever it changes, for a new one.

    What is asked for is done once; only the number is kept, since clients count it up.
    """

    node_cert_expiry: int | None = None
    external_cas: list[ExternalCA] | None = field(default=None, name="ExternalCAs")
    signing_ca_cert: str | None = field(default=None, name="SigningCACert")
    signing_ca_key: Secret | None = field(default=None, name="SigningCAKey")
    force_rotate: int | None = None


class EncryptionConfig(Spec):
    auto_lock_managers: bool | None = None


class ClusterSpec(Spec):
    """Raft's numbers cannot be set; the peer's defaults are accepted, since clients send back what they were shown."""

    RAFT: ClassVar[dict[str, int]] = {
        "SnapshotInterval": 10000,
        "KeepOldSnapshots": 0,
        "LogEntriesForSlowFollowers": 500,
        "ElectionTick": 10,
        "HeartbeatTick": 1,
    }
    LATER = {
        "Raft": (RAFT,),
        "TaskDefaults": (),
    }

    DEFAULT_HISTORY: ClassVar[int] = 5
    DEFAULT_HEARTBEAT: ClassVar[int] = 2 * units.SECOND
    DEFAULT_CERT_EXPIRY: ClassVar[int] = 90 * 24 * units.HOUR

    name: str = "default"
    labels: dict[str, str] | None = None
    orchestration: Orchestration | None = None
    dispatcher: Dispatcher | None = None
    ca_config: CAConfig | None = field(default=None, name="CAConfig")
    encryption_config: EncryptionConfig | None = None

    @property
    def auto_lock(self) -> bool:
        """Managers start locked."""
        return bool(self.encryption_config and self.encryption_config.auto_lock_managers)


def is_empty(value: object) -> bool:
    """Nothing asked for: null, zero, false, "", or a list or map of such."""
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    if isinstance(value, list):
        return not value
    return not value


def _struct_of(annotation: object) -> type[Spec] | None:
    """The Spec class inside ``X | None`` or ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    inner = (_struct_of(part) for part in get_args(annotation))
    return next(filter(None, inner), None)


def refusals(spec: type[Spec], value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The (path, value) of each field in raw JSON ``value`` that the peer knows and Covey does not act on yet."""
    if not isinstance(value, dict):
        return
    prefix = f"{path}." if path else ""
    for name, accepted in spec.LATER.items():
        sent = value.get(name)
        if not is_empty(sent) and sent not in accepted:
            yield prefix + name, sent
    for item in msgspec.structs.fields(spec):
        inner, sent = _struct_of(item.type), value.get(item.encode_name)
        if inner and isinstance(sent, list):
            for number, element in enumerate(sent):
                yield from refusals(inner, element, f"{prefix}{item.encode_name}[{number}]")
        elif inner:
            yield from refusals(inner, sent, prefix + item.encode_name)


def without_later(spec: type[Spec], value: Any) -> Any:
    """Raw JSON ``value`` without nulls and without the fields of ``LATER``, ready to be decoded strictly."""
    if not isinstance(value, dict):
        return value
    inner = {item.encode_name: _struct_of(item.type) for item in msgspec.structs.fields(spec)}
    kept = {}
    for name, sent in value.items():
        if name in spec.LATER or sent is None:
            continue
        below = inner.get(name)
        if below and isinstance(sent, list):
            kept[name] = [without_later(below, element) for element in sent]
        else:
            kept[name] = without_later(below, sent) if below else sent
    return kept
