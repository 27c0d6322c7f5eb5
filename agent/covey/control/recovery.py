# SPDX-License-Identifier: GPL-3.0-or-later
"""What the beginning of a new epoch writes: who is a manager now, and who is none any more.  Pure.

The nodes of before stay, with their tasks: those that still live come back under their ids.  They may have to find the
manager or to become workers first, and get as long for it as an agent that restarts, or longer if the manager is not
where it was and they may have to be told; then they are down.  Former managers are workers, whatever their certificates
say: what is a manager's is closed to them at once, and they can be removed.  One that comes back asks for a certificate
that says what it is now.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from covey.control.cluster import Founder
from covey.model.changes import Change, Create, ObserveNode, Update
from covey.model.objects import Node, NodeDescription, NodeState, NodeStatus
from covey.model.spec import NodeSpec, Role
from covey.plan.liveness import RESTART_GRACE, RETURN_GRACE
from covey.state.view import View


def recovered(view: View, node_id: str, manager_address: str, epoch: int, now: float) -> tuple[Change, ...]:
    """That node, which is in the state, is the only manager of ``epoch``."""
    stayed = view.nodes[node_id].manager_address == manager_address
    back_by = now + (RESTART_GRACE if stayed else RETURN_GRACE)
    return (*_begun(view, epoch, now, back_by), *_managers(view, node_id, manager_address))


def restored(view: View, founder: Founder, epoch: int, now: float) -> tuple[Change, ...]:
    """A node that nobody knew is the only manager of ``epoch``."""
    node = Node(
        id=founder.node_id,
        spec=NodeSpec(role=Role.MANAGER, availability=founder.availability, labels=founder.labels),
        role=Role.MANAGER,
        description=NodeDescription(hostname=founder.hostname),
        manager_address=founder.manager_address,
    )
    return (*_begun(view, epoch, now, now + RETURN_GRACE), *_managers(view, "", ""), Create(node))


def _begun(view: View, epoch: int, now: float, back_by: float) -> Iterator[Change]:
    yield Update(msgspec.structs.replace(view.cluster, epoch=epoch))
    for node in view.nodes.values():
        if node.status.state is not NodeState.DOWN:
            text = "not heard since the cluster began anew"
            status = NodeStatus(message=text, address=node.status.address, since=now, back_by=back_by)
            yield ObserveNode(node.id, status)


def _managers(view: View, chosen: str, address: str) -> Iterator[Change]:
    for node in view.nodes.values():
        is_chosen = node.id == chosen
        if is_chosen or node.spec.role is Role.MANAGER or node.manager_address:
            role = Role.MANAGER if is_chosen else Role.WORKER
            spec = msgspec.structs.replace(node.spec, role=role)
            manager_address = address if is_chosen else ""
            yield Update(msgspec.structs.replace(node, spec=spec, role=role, manager_address=manager_address))
