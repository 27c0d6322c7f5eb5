# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes tasks that are of no use any more.

A task is kept while its container may exist or while it is history: the newest dead ones of each slot, as many as the
cluster's spec says.  Tasks on a down node that are to be removed are not waited for: when the node comes back, its
first assignments are complete, and it stops what they do not list.
"""

from __future__ import annotations

from collections.abc import Iterator

from covey.model.changes import Change, Delete
from covey.model.objects import Task
from covey.model.spec import ClusterSpec
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan
from covey.plan.slots import is_down, is_over, is_placed, slots_of
from covey.state.view import View


def reap(view: View, _now: float, _new_id: NewId) -> Plan:
    """Delete what was removed, what never came to be, and history beyond the limit."""
    limit = _history(view)
    changes: list[Change] = []
    for service_id in view.by_service:
        past = [task for task in view.tasks_of(service_id) if task.desired_state > TaskState.COMPLETE]
        gone = [task for task in past if _is_gone(view, task)]
        changes += (_delete(task) for task in gone)
        if limit >= 0 and len(past) - len(gone) > limit:
            changes += map(_delete, _old_history(past, limit))
    return Plan(tuple(changes))


def _delete(task: Task) -> Delete:
    return Delete("task", task.id, task.version)


def _history(view: View) -> int:
    """How many dead tasks of a slot are kept; negative means all."""
    for cluster in view.clusters.values():
        orchestration = cluster.spec.orchestration
        if orchestration is not None and orchestration.task_history_retention_limit is not None:
            return orchestration.task_history_retention_limit
    return ClusterSpec.DEFAULT_HISTORY


def _is_gone(view: View, task: Task) -> bool:
    """Nobody holds anything for this unwanted task."""
    if not is_placed(task):
        return True
    if task.desired_state is not TaskState.REMOVE:
        return False
    return is_over(task) or is_down(view.nodes.get(task.node_id))


def _old_history(past: list[Task], limit: int) -> Iterator[Task]:
    for slot in slots_of(past).values():
        dead = [task for task in slot.past if is_over(task) and task.desired_state is TaskState.SHUTDOWN]
        dead.sort(key=lambda task: (task.created_at, task.id), reverse=True)
        yield from dead[limit:]
