# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declared service must satisfy beyond its types: asked by the API before it proposes.

Each refusal is an InvalidArgument with the field's path as the user writes it, and says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from covey.model.errors import InvalidArgument
from covey.model.objects import Service
from covey.model.references import uses
from covey.model.spec import (
    ContainerSpec,
    HealthConfig,
    Mount,
    MountType,
    Placement,
    PortConfig,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from covey.model.units import MIB, MILLISECOND
from covey.plan import image
from covey.plan.placement.constraint import parse

_NAME = re.compile(r"[a-zA-Z0-9](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
_LONGEST_NAME = 63
_LEAST_MEMORY = 4 * MIB
_LEAST_CPU = 1_000_000
_MOST_REPLICAS = 100_000
_PROTOCOLS = ("tcp", "udp", "sctp")
_MOST_MODE = 0o777
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9]*(?:[+-]\d+)?|\d{1,2}", re.IGNORECASE)

TEMPLATE = "TaskTemplate"
CONTAINER = f"{TEMPLATE}.ContainerSpec"
RESOURCES = f"{TEMPLATE}.Resources"
POLICY = f"{TEMPLATE}.RestartPolicy"
PLACEMENT = f"{TEMPLATE}.Placement"
PORTS = "EndpointSpec.Ports"


def check_service(spec: ServiceSpec, current: Service | None = None) -> None:
    """Raise InvalidArgument unless ``spec`` can be run, in place of ``current`` if that is given."""
    _check_name(spec.name)
    _check_mode(spec.mode, current)
    _check_task(spec.task_template)
    update = spec.update_config
    if update is not None:
        _not_negative(update.parallelism, "UpdateConfig.Parallelism")
    _check_ports((spec.endpoint_spec.ports if spec.endpoint_spec else None) or ())


def _refuse_if(wrong: bool, message: str, path: str) -> None:
    if wrong:
        raise InvalidArgument(message, path)


def _not_negative(number: int | None, path: str, what: str = "the number") -> None:
    if number is not None and number < 0:
        raise InvalidArgument(f"{what} {number} must not be negative", path)


def _check_name(name: str) -> None:
    _refuse_if(not name, "meta: name must be provided", "Name")
    _refuse_if(
        not _NAME.fullmatch(name),
        f"name must be valid as a DNS name component: letters, digits, '-', '_', '.', with a letter or digit at "
        f"either end, not {name!r}",
        "Name",
    )
    too_long = f"name must be {_LONGEST_NAME} characters or fewer, this one has {len(name)}"
    _refuse_if(len(name) > _LONGEST_NAME, too_long, "Name")


def _check_mode(mode: ServiceMode | None, current: Service | None) -> None:
    replicated, global_ = (mode.replicated, mode.global_) if mode else (None, None)
    _refuse_if(replicated is not None and global_ is not None, "must specify only one service mode", "Mode")
    changed = current is not None and current.is_global != (global_ is not None)
    _refuse_if(changed, "service mode change is not allowed; remove the service and create it anew", "Mode")
    replicas = replicated.replicas if replicated else None
    _not_negative(replicas, "Mode.Replicated.Replicas")
    too_many = f"{replicas} replicas are more than the {_MOST_REPLICAS} a service may have"
    _refuse_if((replicas or 0) > _MOST_REPLICAS, too_many, "Mode.Replicated.Replicas")


def _check_task(task: TaskSpec) -> None:
    _check_container(task.container_spec)
    _check_resources(task.resources or Resources())
    _check_policy(task.restart_policy or RestartPolicy())
    for number, text in enumerate((task.placement or Placement()).constraints or ()):
        parse(text, f"{PLACEMENT}.Constraints[{number}]")
    _not_negative(task.force_update, f"{TEMPLATE}.ForceUpdate")


def _check_container(container: ContainerSpec) -> None:
    path = f"{CONTAINER}.Image"
    _refuse_if(not container.image, "ContainerSpec: image reference must be provided", path)
    wrong = image.problem(container.image)
    _refuse_if(bool(wrong), f"ContainerSpec: {wrong}", path)
    for number, variable in enumerate(container.env or ()):
        _refuse_if(
            not variable or variable.startswith("="),
            f"invalid environment variable {variable!r}: expected NAME=value",
            f"{CONTAINER}.Env[{number}]",
        )
    _not_negative(container.stop_grace_period, f"{CONTAINER}.StopGracePeriod", "the duration")
    signal = container.stop_signal
    _refuse_if(
        bool(signal) and not _SIGNAL.fullmatch(signal or ""),
        f"invalid signal {signal!r}: expected a name such as SIGTERM, or a number",
        f"{CONTAINER}.StopSignal",
    )
    _check_health(container.healthcheck or HealthConfig(), f"{CONTAINER}.Healthcheck")
    _check_mounts(container.mounts or ())
    _check_files(container)


def _check_health(health: HealthConfig, path: str) -> None:
    test = health.test or []
    kind = test[0] if test else ""
    _refuse_if(
        bool(test) and kind not in ("NONE", "CMD", "CMD-SHELL"),
        f"unknown type {kind!r} of health check: expected NONE, CMD or CMD-SHELL",
        f"{path}.Test[0]",
    )
    _refuse_if(kind in ("CMD", "CMD-SHELL") and len(test) < 2, f"{kind} needs a command after it", f"{path}.Test")
    durations = {"Interval": health.interval, "Timeout": health.timeout, "StartPeriod": health.start_period}
    for name, duration in durations.items():
        _refuse_if(
            bool(duration) and (duration or 0) < MILLISECOND,
            f"the duration {duration} (nanoseconds) must be 0, which inherits the image's, or at least 1 ms",
            f"{path}.{name}",
        )
    _not_negative(health.retries, f"{path}.Retries")


def _check_mounts(mounts: Iterable[Mount]) -> None:
    seen: dict[str, int] = {}
    for number, mount in enumerate(mounts):
        path = f"{CONTAINER}.Mounts[{number}]"
        target = mount.target
        _refuse_if(not target.startswith("/"), f"the target must be an absolute path, not {target!r}", f"{path}.Target")
        plain = target.rstrip("/") or "/"
        _refuse_if(plain == "/", "the target must not be the root of the container", f"{path}.Target")
        before = seen.setdefault(plain, number)
        _refuse_if(before != number, f"{plain} is the target of Mounts[{before}] already", f"{path}.Target")
        _check_source(mount, f"{path}.Source")
        for kind, options in _foreign_options(mount):
            _refuse_if(True, f"{options} go with mounts of type {kind} only", f"{path}.{options}")


def _check_source(mount: Mount, path: str) -> None:
    source = mount.source or ""
    if mount.type is MountType.BIND:
        _refuse_if(not source.startswith("/"), f"a bind needs an absolute path on the host, not {source!r}", path)
    if mount.type is MountType.TMPFS:
        _refuse_if(bool(source), "a tmpfs has no source", path)
    if mount.type is MountType.VOLUME:
        _refuse_if("/" in source, f"{source!r} is no name of a volume; for a path of the host use type bind", path)


def _foreign_options(mount: Mount) -> Iterator[tuple[MountType, str]]:
    options = {
        MountType.BIND: ("BindOptions", mount.bind_options),
        MountType.VOLUME: ("VolumeOptions", mount.volume_options),
        MountType.TMPFS: ("TmpfsOptions", mount.tmpfs_options),
    }
    return ((kind, name) for kind, (name, value) in options.items() if value is not None and kind is not mount.type)


def _check_files(container: ContainerSpec) -> None:
    """Secrets and configs: each has a place of its own in the container, and an owner."""
    taken = {mount.target.rstrip("/"): f"Mounts[{n}]" for n, mount in enumerate(container.mounts or ())}
    for use in uses(container):
        path = f"{CONTAINER}.{use.path}.File"
        named = use.target != "/" and use.target.isprintable()
        _refuse_if(not named, f"{use.file.name!r} is no name of a file", f"{path}.Name")
        _refuse_if(".." in use.file.name.split("/"), f"{use.file.name!r} must not hold '..'", f"{path}.Name")
        before = taken.setdefault(use.target, use.path)
        doubled = f"{use.target} is the target of {before} already"
        _refuse_if(before != use.path, doubled, f"{path}.Name")
        for name, owner in (("UID", use.file.uid), ("GID", use.file.gid)):
            wrong = owner is not None and not re.fullmatch(r"\d{1,9}", owner, re.ASCII)
            _refuse_if(wrong, f"{owner!r} is no number of a user or group", f"{path}.{name}")
        mode = use.file.mode or 0
        _refuse_if(not 0 <= mode <= _MOST_MODE, f"the mode {mode:o} must be between 0 and 0777", f"{path}.Mode")


def _check_resources(resources: Resources) -> None:
    for name, amount in (("Limits", resources.limits), ("Reservations", resources.reservations)):
        if amount is None:
            continue
        cpus, memory = amount.nano_cpus or 0, amount.memory_bytes or 0
        too_little = f"invalid memory value {memory}: Must be at least 4MiB"
        _refuse_if(memory != 0 and memory < _LEAST_MEMORY, too_little, f"{RESOURCES}.{name}.MemoryBytes")
        too_slow = f"invalid cpu value {cpus / 1e9:g}: Must be at least {_LEAST_CPU / 1e9:g}"
        _refuse_if(cpus != 0 and cpus < _LEAST_CPU, too_slow, f"{RESOURCES}.{name}.NanoCPUs")
    limits, reserved = resources.limits, resources.reservations
    if limits is None or reserved is None:
        return
    _within(reserved.memory_bytes, limits.memory_bytes, "MemoryBytes")
    _within(reserved.nano_cpus, limits.nano_cpus, "NanoCPUs")


def _within(reserved: int | None, limit: int | None, name: str) -> None:
    _refuse_if(
        bool(limit) and (reserved or 0) > (limit or 0),
        f"the reservation ({reserved}) is above the limit ({limit})",
        f"{RESOURCES}.Reservations.{name}",
    )


def _check_policy(policy: RestartPolicy) -> None:
    _not_negative(policy.delay, f"{POLICY}.Delay", "the duration")
    _not_negative(policy.window, f"{POLICY}.Window", "the duration")
    _not_negative(policy.max_attempts, f"{POLICY}.MaxAttempts")


def _check_ports(ports: Iterable[PortConfig]) -> None:
    taken: dict[tuple[str, int], int] = {}
    for number, port in enumerate(ports):
        path = f"{PORTS}[{number}]"
        protocol = port.protocol or "tcp"
        expected = f"unknown protocol {protocol!r}: expected one of {', '.join(_PROTOCOLS)}"
        _refuse_if(protocol not in _PROTOCOLS, expected, f"{path}.Protocol")
        mode = port.publish_mode or "ingress"
        _refuse_if(
            mode not in ("ingress", "host"), f"unknown mode {mode!r}: expected host or ingress", f"{path}.PublishMode"
        )
        published = port.published_port or 0
        _refuse_if(not 1 <= port.target_port <= 65535, _range(port.target_port, 1), f"{path}.TargetPort")
        _refuse_if(not 0 <= published <= 65535, _range(published, 0), f"{path}.PublishedPort")
        _refuse_if(
            mode == "ingress",
            "the routing mesh (ingress) is not served yet; publish on the hosts that run a task instead: mode=host, "
            f"as in --publish mode=host,target={port.target_port}",
            f"{path}.PublishMode",
        )
        if published:
            before = taken.setdefault((protocol, published), number)
            doubled = f"{published}/{protocol} is published by Ports[{before}] already"
            _refuse_if(before != number, doubled, f"{path}.PublishedPort")


def _range(number: int, least: int) -> str:
    return f"the port {number} must be between {least} and 65535"
