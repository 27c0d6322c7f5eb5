# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks nobody answers for any more: their service, or their node, is gone.

Without a service a task is removed.  A task whose node was removed from the cluster, or has been down for a day, is
declared over: no report about it is to be expected, and what it held is free again.
"""

from __future__ import annotations

from covey.model.changes import Change, ObserveTask, Update
from covey.model.objects import Node, NodeState, TaskStatus
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan, earliest
from covey.plan.slots import is_over, is_placed, told
from covey.state.view import View

#: How long a node may be down before its tasks are declared over.
ORPHANED_AFTER = 24 * 3600.0


def orphans(view: View, now: float, _new_id: NewId) -> Plan:
    """Remove tasks without a service; declare those without a node over."""
    changes: list[Change] = []
    wake_at: float | None = None
    for service_id in view.by_service.keys() - view.services.keys():
        changes += (
            Update(told(task, TaskState.REMOVE))
            for task in view.tasks_of(service_id)
            if task.desired_state is not TaskState.REMOVE
        )
    for node_id in view.by_node:
        lost_at = _lost_at(view.nodes.get(node_id))
        if lost_at is None:
            continue
        held = [task for task in view.tasks_on(node_id) if is_placed(task) and not is_over(task)]
        if held and lost_at > now:
            wake_at = earliest(wake_at, lost_at)
            continue
        text = "was removed from the cluster" if node_id not in view.nodes else "has been down for a day"
        status = TaskStatus(state=TaskState.ORPHANED, timestamp=now, message="orphaned", err=f"node {node_id} {text}")
        changes += (ObserveTask(task.id, status) for task in held)
    return Plan(tuple(changes), wake_at)


def _lost_at(node: Node | None) -> float | None:
    """From when on the node's tasks count as over, None while it may still answer."""
    if node is None:
        return 0.0
    if node.status.state is not NodeState.DOWN:
        return None
    return node.status.since + ORPHANED_AFTER
