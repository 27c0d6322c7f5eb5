# SPDX-License-Identifier: GPL-3.0-or-later
"""The rotation of the root, as a user asks for it and as it is shown.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from covey.api import authorities
from covey.api.specs import Json
from covey.model.errors import InvalidArgument
from covey.model.objects import Cluster, Node, NodeState
from covey.model.secret import Secret
from covey.model.spec import CAConfig, ClusterSpec
from covey.model.units import rfc3339
from covey.plan.rotation import unmoved
from covey.security import ca, rotation
from covey.security.ca import RootCA
from covey.security.certificate import read_certificate
from covey.state.view import View

#: Seconds before the end of the root from which on that is warned of.
WARN_BEFORE = 90 * 86400.0
NO_KEY = (
    "a root needs its key beside it (--ca-key), so that the managers can sign certificates, or an authority outside of "
    "the cluster that has the key (--external-ca protocol=cfssl,url=https://...)"
)


def asked_root(before: Cluster, spec: ClusterSpec, now: float) -> tuple[ClusterSpec, RootCA | None]:
    """The spec as it is kept, and the root that shall take the present one's place; None if it stays as it is.

    The same certificate again, with its key or without, asks for that key to be kept or forgotten.
    """
    config, old = spec.ca_config or CAConfig(), before.spec.ca_config or CAConfig()
    kept = _kept(spec)
    if config.signing_ca_key and not config.signing_ca_cert:
        raise InvalidArgument("the root certificate that this key belongs to is missing", "CAConfig.SigningCACert")
    if config.signing_ca_cert:
        given = rotation.given_root(config.signing_ca_cert.encode(), config.signing_ca_key or Secret(b""), now)
        if not given.key_pem and not authorities.stands_for(spec, given.cert_pem):
            raise InvalidArgument(NO_KEY, "CAConfig.SigningCAKey")
        return kept, given
    if (config.force_rotate or 0) != (old.force_rotate or 0):
        return kept, ca.create_root(now)
    return kept, None


def without_root(spec: ClusterSpec) -> ClusterSpec:
    """The spec of a cluster to be founded, which makes its own root first."""
    config = spec.ca_config
    if config and (config.signing_ca_cert or config.signing_ca_key):
        raise InvalidArgument(
            "a cluster begins with a root of its own; found it without one, then rotate to yours with "
            "`docker swarm ca --rotate --ca-cert FILE --ca-key FILE`",
            "CAConfig.SigningCACert",
        )
    return spec


def _kept(spec: ClusterSpec) -> ClusterSpec:
    config = spec.ca_config
    if config is None:
        return spec
    config = msgspec.structs.replace(config, signing_ca_cert=None, signing_ca_key=None)
    return msgspec.structs.replace(spec, ca_config=config)


def progress(view: View) -> Json:
    """How far it is, and whom it waits for."""
    turning = view.cluster.rotation
    if turning is None:
        return {
            "InProgress": False,
            "StartedAt": None,
            "Nodes": len(view.nodes),
            "Moved": len(view.nodes),
            "Waiting": [],
        }
    waiting = unmoved(view, turning)
    return {
        "InProgress": True,
        "StartedAt": rfc3339(turning.started_at),
        "Nodes": len(view.nodes),
        "Moved": len(view.nodes) - len(waiting),
        "Waiting": [{"ID": each.id, "Hostname": _name(each), "State": str(each.status.state)} for each in waiting],
    }


def warnings(view: View, now: float) -> list[str]:
    """What ``docker info`` should tell of the root: it ends soon; nodes that are not there hold its rotation up."""
    return [*_ends_soon(view, now), *_held_up(view)]


def _ends_soon(view: View, now: float) -> Iterator[str]:
    for cluster in view.clusters.values():
        if not cluster.root_certificate:
            continue
        end = read_certificate(cluster.root_certificate, "root certificate").not_valid_after_utc
        if end.timestamp() - now < WARN_BEFORE:
            yield (
                f"WARNING: the root certificate ends on {end:%Y-%m-%d}, and with it every node's certificate: replace "
                "it before (docker swarm ca --rotate)"
            )


def _held_up(view: View) -> list[str]:
    turning = next((each.rotation for each in view.clusters.values()), None)
    if turning is None:
        return []
    away = sorted(_name(each) for each in unmoved(view, turning) if each.status.state is not NodeState.READY)
    if not away:
        return []
    return [
        f"WARNING: the rotation of the root certificate waits for {', '.join(away)}: bring back what is down, or "
        "remove it (docker node rm --force; a manager is demoted first)"
    ]


def _name(node: Node) -> str:
    return node.spec.name or node.description.hostname or node.id
