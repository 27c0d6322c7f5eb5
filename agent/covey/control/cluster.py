# SPDX-License-Identifier: GPL-3.0-or-later
"""The first objects of a cluster, its join tokens and their rotation, as changes.  Pure.

Never in it: signing, the store, dice; whoever calls brings key material and ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from covey.model import units
from covey.model.changes import Change, Create, Update
from covey.model.objects import Cluster, Node, NodeDescription
from covey.model.secret import Secret
from covey.model.spec import Availability, ClusterSpec, NodeSpec, Role
from covey.security.ca import RootCA
from covey.security.tokens import make_token


@dataclass(frozen=True, slots=True)
class TokenSecrets:
    """The random halves of both join tokens, 16 bytes each; None keeps a token as it is.

    ``unlock_key``, 32 bytes, is for a cluster that is founded with locked managers.
    """

    worker: Secret | None = None
    manager: Secret | None = None
    unlock_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Founder:
    """The node that founds a cluster: its first manager.  ``manager_address`` is its ``host:2377``."""

    node_id: str
    hostname: str
    manager_address: str
    availability: Availability = Availability.ACTIVE
    labels: dict[str, str] | None = None


def first_objects(
    cluster_id: str, root: RootCA, secrets: TokenSecrets, spec: ClusterSpec, founder: Founder
) -> tuple[Change, ...]:
    """What ``init`` writes: the cluster with its authority, tokens and keys, and its first manager."""
    cluster = Cluster(id=cluster_id, spec=spec, root_certificate=root.cert_pem, root_key=root.key_pem)
    node = Node(
        id=founder.node_id,
        spec=NodeSpec(role=Role.MANAGER, availability=founder.availability, labels=founder.labels),
        role=Role.MANAGER,
        description=NodeDescription(hostname=founder.hostname),
        manager_address=founder.manager_address,
    )
    return Create(with_unlock_key(with_tokens(cluster, secrets), secrets.unlock_key or Secret(b""))), Create(node)


def rotate_tokens(cluster: Cluster, secrets: TokenSecrets) -> Change:
    """New tokens for the roles that have a new secret; the old ones stop working with this write."""
    return Update(with_tokens(cluster, secrets))


def with_tokens(cluster: Cluster, secrets: TokenSecrets) -> Cluster:
    """The cluster with tokens for its root, and for the one on its way in, made from these secrets."""
    kept = cluster.worker_token, cluster.manager_token
    worker, manager = tokens_of(cluster.root_certificate, secrets, kept)
    cluster = msgspec.structs.replace(cluster, worker_token=worker, manager_token=manager)
    turning = cluster.rotation
    if turning is None:
        return cluster
    worker, manager = tokens_of(turning.certificate, secrets, (turning.worker_token, turning.manager_token))
    turning = msgspec.structs.replace(turning, worker_token=worker, manager_token=manager)
    return msgspec.structs.replace(cluster, rotation=turning)


def tokens_of(root_pem: bytes, secrets: TokenSecrets, kept: tuple[Secret, Secret]) -> tuple[Secret, Secret]:
    """The tokens of the worker and of the manager under that root; one without a secret is kept."""
    worker, manager = (
        old if secret is None else Secret(make_token(root_pem, secret.reveal()).encode())
        for old, secret in zip(kept, (secrets.worker, secrets.manager), strict=True)
    )
    return worker, manager


def with_unlock_key(cluster: Cluster, fresh: Secret, *, rotate: bool = False) -> Cluster:
    """The cluster with the unlock key that its spec asks for: none, the one it has, or ``fresh``."""
    if not cluster.spec.auto_lock:
        return msgspec.structs.replace(cluster, unlock_key=Secret(b""))
    if cluster.unlock_key and not rotate:
        return cluster
    return msgspec.structs.replace(cluster, unlock_key=fresh, unlock_key_version=cluster.unlock_key_version + 1)


def join_token(cluster: Cluster, role: Role) -> str:
    """The token that lets a node join in this role, whole.  Whoever may see it may join."""
    token = cluster.manager_token if role is Role.MANAGER else cluster.worker_token
    return token.reveal().decode()


def certificate_lifetime(spec: ClusterSpec) -> float:
    """How long a node's certificate lasts, in seconds."""
    wanted = spec.ca_config.node_cert_expiry if spec.ca_config else None
    return units.seconds(wanted or ClusterSpec.DEFAULT_CERT_EXPIRY)
