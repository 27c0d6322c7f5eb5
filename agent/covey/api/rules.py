# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked of nodes and of the cluster, beyond types.  Pure: takes the state, returns or raises.

What a service must satisfy stands in ``plan.rules``.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from covey.model.errors import FailedPrecondition, InvalidArgument
from covey.model.objects import Node, NodeState
from covey.model.spec import ClusterSpec, NodeSpec, Role
from covey.model.units import HOUR, MILLISECOND
from covey.state.view import View

LEAST_HEARTBEAT = 100 * MILLISECOND
LEAST_EXPIRY = HOUR


def check_node_update(view: View, node: Node, spec: NodeSpec, reachable: Collection[str]) -> None:
    """FailedPrecondition when the node cannot become what ``spec`` says without the cluster losing its managers.

    ``reachable``: the managers whose stores answer the leader's.
    """
    if node.spec.role is not Role.MANAGER or spec.role is Role.MANAGER:
        return
    others = [other for other in view.nodes.values() if other.spec.role is Role.MANAGER and other.id != node.id]
    if not others:
        raise FailedPrecondition(
            f"attempting to demote the last manager of the swarm: {_name(node)} is the only one, promote another first"
        )
    voters = [other for other in view.nodes.values() if other.manager_address and other.id != node.id]
    silent = sorted(_name(other) for other in voters if other.id not in reachable)
    if node.manager_address and len(voters) - len(silent) < len(voters) // 2 + 1:
        raise FailedPrecondition(
            "can't remove member from the raft: this would result in a loss of quorum: without "
            f"{_name(node)} only {len(voters) - len(silent)} of {len(voters)} managers would answer "
            f"(silent: {', '.join(silent)}); bring the others back first"
        )


def check_node_removal(node: Node, force: bool) -> None:
    """FailedPrecondition unless the node may be removed now."""
    if node.spec.role is Role.MANAGER or node.manager_address:
        raise FailedPrecondition(
            f"node {node.id} is a cluster manager and is a member of the raft cluster. "
            f"It must be demoted to worker before removal (docker node demote {_name(node)})"
        )
    if node.status.state is NodeState.READY and not force:
        raise FailedPrecondition(
            f"node {node.id} is not down and can't be removed: let it leave first "
            f"(docker swarm leave on {_name(node)}), or force it"
        )


def checked_cluster(spec: ClusterSpec) -> ClusterSpec:
    """The spec with zero read as "the default"; InvalidArgument when it cannot hold."""
    if spec.name != ClusterSpec().name:
        raise InvalidArgument(f"the cluster's name is always {ClusterSpec().name}", "Name")
    beat = spec.dispatcher.heartbeat_period if spec.dispatcher else None
    if beat and beat < LEAST_HEARTBEAT:
        raise InvalidArgument(
            f"{beat} nanoseconds are too short a heartbeat; the least is {LEAST_HEARTBEAT}",
            "Dispatcher.HeartbeatPeriod",
        )
    config = spec.ca_config
    expiry = config.node_cert_expiry if config else None
    if expiry and expiry < LEAST_EXPIRY:
        raise InvalidArgument(
            f"minimum certificate expiry time is 1h ({LEAST_EXPIRY} nanoseconds), not {expiry}",
            "CAConfig.NodeCertExpiry",
        )
    return msgspec.structs.replace(
        spec,
        dispatcher=spec.dispatcher if beat else None,
        ca_config=msgspec.structs.replace(config, node_cert_expiry=expiry or None) if config else None,
        encryption_config=spec.encryption_config if spec.auto_lock else None,
    )


def _name(node: Node) -> str:
    return node.spec.name or node.description.hostname or node.id
