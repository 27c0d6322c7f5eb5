# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs as JSON: as declared, with every default inserted, and in the one form in which two of them are compared.

Never in it: objects, state.
"""

from __future__ import annotations

from typing import Any

import msgspec

from covey.model.spec import ClusterSpec, ContainerSpec, ServiceSpec
from covey.model.units import SECOND

Json = dict[str, Any]

_UPDATE = {
    "Parallelism": 1,
    "FailureAction": "pause",
    "Monitor": 5 * SECOND,
    "MaxFailureRatio": 0,
    "Order": "stop-first",
}

#: What the peer always shows of a service's spec, sent or not; clients build their updates on it.
SHOWN_SERVICE: Json = {
    "Labels": {},
    "TaskTemplate": {"ContainerSpec": {"Isolation": "default"}, "ForceUpdate": 0, "Runtime": "container"},
}

#: What holds where nothing was declared.  Not here: RestartPolicy.Delay, since to leave it out is not to set it.
SERVICE_DEFAULTS: Json = {
    "Labels": {},
    "TaskTemplate": {
        "ContainerSpec": {
            "StopGracePeriod": ContainerSpec.DEFAULT_STOP_GRACE,
            "DNSConfig": {},
            "Isolation": "default",
        },
        "Resources": {},
        "RestartPolicy": {"Condition": "any", "MaxAttempts": 0},
        "Placement": {},
        "ForceUpdate": 0,
        "Runtime": "container",
    },
    "UpdateConfig": _UPDATE,
    "RollbackConfig": _UPDATE,
    "EndpointSpec": {"Mode": "vip"},
}

CLUSTER_DEFAULTS: Json = {
    "Name": "default",
    "Labels": {},
    "Orchestration": {"TaskHistoryRetentionLimit": ClusterSpec.DEFAULT_HISTORY},
    "Raft": ClusterSpec.RAFT,
    "Dispatcher": {"HeartbeatPeriod": ClusterSpec.DEFAULT_HEARTBEAT},
    "CAConfig": {"NodeCertExpiry": ClusterSpec.DEFAULT_CERT_EXPIRY},
    "TaskDefaults": {},
    "EncryptionConfig": {"AutoLockManagers": False},
}

_MOUNT_DEFAULTS = {"bind": {"BindOptions": {"Propagation": "rprivate"}}}
_PORT_DEFAULTS = {"Protocol": "tcp", "PublishMode": "ingress"}

#: Fields in which zero says something else than nothing.
ZERO_COUNTS = frozenset({"Replicas", "Parallelism", "Delay", "StopGracePeriod"})


def plain(value: Any) -> Any:
    """``value`` as JSON with every field that was sent, its default included; msgspec alone would leave that out."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        pairs = ((name, getattr(value, attribute)) for name, attribute in names)
        return {name: plain(content) for name, content in pairs if content is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return msgspec.to_builtins(value)


def over(defaults: Json, spec: Json) -> Json:
    """``spec`` laid over ``defaults``, map by map."""
    merged = spec | {name: below for name, below in defaults.items() if name not in spec}
    for name, below in defaults.items():
        if isinstance(below, dict) and isinstance(spec.get(name), dict):
            merged[name] = over(below, spec[name])
    return merged


def declared_service(spec: ServiceSpec) -> Json:
    """A service's spec as the peer shows it: what was sent, and the little it always adds."""
    shown = over(SHOWN_SERVICE, plain(spec))
    if "EndpointSpec" in shown:
        shown["EndpointSpec"] = over(SERVICE_DEFAULTS["EndpointSpec"], shown["EndpointSpec"])
    if "Global" not in shown.get("Mode", {}):
        shown["Mode"] = over({"Replicated": {"Replicas": 1}}, shown.get("Mode", {}))
    return shown


def whole_service(spec: ServiceSpec) -> Json:
    """A service's spec with every default inserted."""
    return over(SERVICE_DEFAULTS, declared_service(spec))


def cluster(spec: ClusterSpec) -> Json:
    """The cluster's spec, always whole."""
    return over(CLUSTER_DEFAULTS, plain(spec))


def comparable(spec: ServiceSpec) -> Json:
    """Two specs mean the same exactly if these are equal: defaults inserted, and nothing that asks for nothing."""
    whole = whole_service(spec)
    container, endpoint = whole["TaskTemplate"]["ContainerSpec"], whole["EndpointSpec"]
    if "Mounts" in container:
        mounts = [over(_MOUNT_DEFAULTS.get(mount["Type"], {}), mount) for mount in container["Mounts"]]
        container = {**container, "Mounts": mounts}
    if "Ports" in endpoint:
        endpoint = {**endpoint, "Ports": [over(_PORT_DEFAULTS, port) for port in endpoint["Ports"]]}
    template = {**whole["TaskTemplate"], "ContainerSpec": container}
    pruned: Json = without_nothing({**whole, "TaskTemplate": template, "EndpointSpec": endpoint})
    if "Global" in whole["Mode"]:
        pruned["Mode"] = {"Global": {}}
    return pruned


def without_nothing(value: Any) -> Any:
    """``value`` without empty maps, lists and strings, false, and zero where it means unset."""
    if isinstance(value, dict):
        kept = {name: without_nothing(content) for name, content in value.items()}
        return {name: content for name, content in kept.items() if content or _counts(name, content)}
    if isinstance(value, list):
        return [without_nothing(item) for item in value]
    return value


def _counts(name: str, content: object) -> bool:
    return content == 0 and name in ZERO_COUNTS
