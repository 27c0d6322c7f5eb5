# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the managers are, and what role a node's next certificate says: pure readings of the view."""

from __future__ import annotations

from covey.model import units
from covey.model.errors import NotFound
from covey.model.objects import Node
from covey.model.session import ManagerAddress
from covey.model.spec import ClusterSpec, Role
from covey.state.view import View


def managers_of(view: View) -> tuple[ManagerAddress, ...]:
    """The managers one may turn to, by node id."""
    nodes = (node for node in view.nodes.values() if node.manager_address)
    return tuple(ManagerAddress(node_id=n.id, address=n.manager_address) for n in sorted(nodes, key=lambda n: n.id))


def manager_at(view: View, node_id: str | None) -> ManagerAddress | None:
    """Where that manager's cluster server answers; None where there is no such manager."""
    node = view.nodes.get(node_id) if node_id else None
    if node is None or not node.manager_address:
        return None
    return ManagerAddress(node_id=node.id, address=node.manager_address)


def role_due(node: Node) -> Role:
    """The role to certify: the one wished for, but no manager becomes a worker before its Raft vote is gone."""
    return Role.MANAGER if node.manager_address else node.spec.role


def epoch_of(view: View) -> int:
    """When the cluster was last recovered; 0 if never."""
    return max((cluster.epoch for cluster in view.clusters.values()), default=0)


def heartbeat_period(view: View) -> float:
    """Seconds between two heartbeats, as told to the nodes."""
    try:
        dispatcher = view.cluster.spec.dispatcher
    except NotFound:
        dispatcher = None
    wanted = dispatcher.heartbeat_period if dispatcher else None
    return units.seconds(wanted or ClusterSpec.DEFAULT_HEARTBEAT)
