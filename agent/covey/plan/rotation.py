# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotates the cluster's root: has nodes renew their certificates in bounded batches, and ends once all have.

A node has moved when its certificate is the new root's and it trusts that root; it says so itself.  One that is down
holds the end up, since it would not know its managers again; to remove it lets the others finish.
"""

from __future__ import annotations

import msgspec

from covey.model.changes import Update
from covey.model.objects import Cluster, Node, NodeState, RootRotation
from covey.plan.base import NewId, Plan
from covey.state.view import View

#: So many nodes are asked at a time, and so many seconds pass before the next.
BATCH, INTERVAL = 30, 3.0


def rotation(view: View, now: float, _new_id: NewId) -> Plan:
    """Ask the next nodes to move, or let the new root take the old one's place."""
    cluster = next(iter(view.clusters.values()), None)
    if cluster is None or cluster.rotation is None:
        return Plan()
    turning, waiting = cluster.rotation, unmoved(view, cluster.rotation)
    if not waiting:
        return Plan((Update(_ended(cluster, turning)),))
    told = frozenset(turning.told)
    next_ones = sorted(node.id for node in waiting if node.status.state is NodeState.READY and node.id not in told)
    if not next_ones:
        return Plan()
    due = turning.told_at + INTERVAL
    if due > now:
        return Plan(wake_at=due)
    told = frozenset(node_id for node_id in told if node_id in view.nodes) | frozenset(next_ones[:BATCH])
    turning = msgspec.structs.replace(turning, told=tuple(sorted(told)), told_at=now)
    return Plan((Update(msgspec.structs.replace(cluster, rotation=turning)),))


def unmoved(view: View, turning: RootRotation) -> list[Node]:
    """The nodes that the rotation waits for."""
    return [node for node in view.nodes.values() if not has_moved(node, turning)]


def has_moved(node: Node, turning: RootRotation) -> bool:
    """Whether the old root is not needed for this node any more."""
    tls = node.description.tls
    issuer = tls.issuer_subject, tls.issuer_public_key
    return issuer == (turning.issuer_subject, turning.issuer_public_key) and turning.certificate in tls.trust_root


def _ended(cluster: Cluster, turning: RootRotation) -> Cluster:
    return msgspec.structs.replace(
        cluster,
        root_certificate=turning.certificate,
        root_key=turning.key,
        worker_token=turning.worker_token,
        manager_token=turning.manager_token,
        rotation=None,
    )
