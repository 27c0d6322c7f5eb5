# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets tasks that wait at READY run: not before their time, and not beside another task of their slot.

Invariant: no task is told to run while one that was told to go may still be alive in the same slot, unless that one's
node is down, or it has been given a minute more than its own grace period to stop.
"""

from __future__ import annotations

from collections import defaultdict

from covey.model import units
from covey.model.changes import Change, Update
from covey.model.objects import Task
from covey.model.spec import ContainerSpec
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan, earliest
from covey.plan.slots import SlotKey, is_down, is_over, is_placed, slot_key, told
from covey.state.view import View

#: How long after its grace period a predecessor may hold its slot.
PATIENCE = 60.0


def start(view: View, now: float, _new_id: NewId) -> Plan:
    """Advance desired READY to RUNNING where nothing speaks against it."""
    changes: list[Change] = []
    wake_at: float | None = None
    for service_id in view.by_service:
        ready = [task for task in view.tasks_of(service_id) if task.desired_state is TaskState.READY]
        if not ready:
            continue
        leaving = _leaving(view, service_id)
        for task in ready:
            at = max((_clear_at(task, other) for other in leaving.get(slot_key(task), ())), default=task.start_at)
            if at <= now:
                changes.append(Update(told(task, TaskState.RUNNING)))
            else:
                wake_at = earliest(wake_at, at)
    return Plan(tuple(changes), wake_at)


def _leaving(view: View, service_id: str) -> dict[SlotKey, list[Task]]:
    """By slot, the tasks that were told to go and may still be alive."""
    leaving: dict[SlotKey, list[Task]] = defaultdict(list)
    for task in view.tasks_of(service_id):
        told_to_go = task.desired_state > TaskState.COMPLETE and is_placed(task) and not is_over(task)
        if told_to_go and not is_down(view.nodes.get(task.node_id)):
            leaving[slot_key(task)].append(task)
    return leaving


def _clear_at(task: Task, predecessor: Task) -> float:
    """When ``task`` may start even if ``predecessor`` never reports its end."""
    grace = predecessor.spec.container_spec.stop_grace_period
    grace = ContainerSpec.DEFAULT_STOP_GRACE if grace is None else grace
    return max(task.start_at, task.created_at + units.seconds(grace) + PATIENCE)
