# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a service's tasks to its spec of today, a few slots at a time: the old one stops, then the new one starts.

Invariant: a running task is told to stop only while more than ``slots - parallelism`` slots run.  A slot that is not
running costs nothing to replace, so those come first; but no more than ``parallelism`` replacements are on their way at
once, so that a bad spec shows early.  The first task of the new spec that fails pauses the update, for good: the next
declared spec begins another.  Only this planner brings a slot from one spec to another.
"""

from __future__ import annotations

import msgspec

from covey.model.changes import Change, Create, SetUpdateStatus, Update
from covey.model.objects import Service, Task, UpdateState, UpdateStatus
from covey.model.spec import RestartCondition
from covey.model.tasks import TaskState, failed
from covey.plan.base import NewId, Plan, earliest
from covey.plan.drift import Drift
from covey.plan.slots import (
    best_first,
    first_task,
    is_down,
    is_finished,
    is_over,
    is_running,
    slot_key,
    slots_of,
    told,
)
from covey.state.view import View

#: How long, in seconds, a task must have run for its slot to count as updated.
MONITOR = 5.0


def rolling(view: View, now: float, new_id: NewId) -> Plan:
    """Begin, go on with, pause or complete the update of each service."""
    changes: list[Change] = []
    wake_at: float | None = None
    for service in view.services.values():
        state = service.update_status.state if service.update_status else None
        if state is UpdateState.PAUSED or (state is not UpdateState.UPDATING and _all_newest(view, service)):
            continue
        plan = _roll(_Slots(view, service), now, new_id)
        changes += plan.changes
        wake_at = earliest(wake_at, plan.wake_at)
    return Plan(tuple(changes), wake_at)


def _all_newest(view: View, service: Service) -> bool:
    return all(task.service_version == service.version for task in view.tasks_of(service.id))


class _Slots:
    """The slots of one service as its update sees them; of each slot the one wanted task stands for it.

    Slots of a global service on nodes that take no new tasks are left alone.
    """

    def __init__(self, view: View, service: Service) -> None:
        self.view, self.service = view, service
        self.drifted = Drift(view, service)
        found = slots_of(view.tasks_of(service.id)).values()
        wanted = [best_first(slot.wanted)[0] for slot in found if slot.wanted]
        current = [task for task in wanted if not service.is_global or self._takes_tasks(task.node_id)]
        self.dirty = [task for task in current if self.drifted(task)]
        self.active = [task for task in current if not is_finished(task)]
        self.running = {task.id for task in self.active if self._runs(task)}

    def _takes_tasks(self, node_id: str) -> bool:
        node = self.view.nodes.get(node_id)
        return node is not None and node.schedulable

    def _runs(self, task: Task) -> bool:
        return is_running(task) and not is_down(self.view.nodes.get(task.node_id))

    def next_to_replace(self) -> list[Task]:
        """Dirty tasks that may be replaced now.

        At most ``parallelism`` slots may stand still.  Those that do are either under way to the new spec or at the
        head of this line, so what is left of it for running tasks is what may still be spared.
        """
        config = self.service.spec.update_config
        parallelism = 1 if config is None or config.parallelism is None else config.parallelism
        dirty = {task.id for task in self.dirty}
        under_way = sum(1 for task in self.active if task.id not in dirty and task.id not in self.running)
        line = sorted(self.dirty, key=lambda task: (task.id in self.running, task.slot, task.node_id))
        return line[: max(0, parallelism - under_way)] if parallelism else line


def _roll(slots: _Slots, now: float, new_id: NewId) -> Plan:
    service, status = slots.service, slots.service.update_status
    changes: list[Change] = []
    if status is None or status.state is not UpdateState.UPDATING:
        if not slots.dirty:
            return Plan()
        status = UpdateStatus(state=UpdateState.UPDATING, started_at=now, message="update in progress")
        changes.append(SetUpdateStatus(service.id, service.version, status))
    culprit = _culprit(slots, status)
    if culprit is not None:
        return Plan((SetUpdateStatus(service.id, service.version, _paused(slots.view, status, culprit)),))
    if not slots.dirty:
        return _complete(slots, status, now)
    for task in slots.next_to_replace():
        successor = msgspec.structs.replace(first_task(service, slot_key(task), new_id(), now), replaces=task.id)
        changes += (Update(told(task, TaskState.SHUTDOWN)), Create(successor))
    return Plan(tuple(changes))


def _culprit(slots: _Slots, status: UpdateStatus) -> Task | None:
    """The first task of this update that failed before it had run for the time of the monitor."""
    tasks = slots.view.tasks_of(slots.service.id)
    failed_early = (task for task in tasks if task.created_at >= status.started_at and _failed_early(task))
    return min((t for t in failed_early if not slots.drifted(t)), key=lambda t: (t.ended_at, t.id), default=None)


def _failed_early(task: Task) -> bool:
    if not is_over(task) or (task.running_at and task.ended_at - task.running_at >= MONITOR):
        return False
    policy = task.spec.restart_policy
    runs_on = policy is None or policy.condition in (None, RestartCondition.ANY)
    return failed(task.status.state) or (task.status.state is TaskState.COMPLETE and runs_on)


def _paused(view: View, status: UpdateStatus, culprit: Task) -> UpdateStatus:
    node = view.nodes.get(culprit.node_id)
    where = node.description.hostname if node else culprit.node_id
    why = culprit.status.err or culprit.status.message or str(culprit.status.state)
    message = f"update paused due to failure or early termination of task {culprit.name} on {where}: {why}"
    return msgspec.structs.replace(status, state=UpdateState.PAUSED, message=message)


def _complete(slots: _Slots, status: UpdateStatus, now: float) -> Plan:
    """Once every slot has run for the time of the monitor."""
    if len(slots.running) < len(slots.active):
        return Plan()
    at = max((task.running_at + MONITOR for task in slots.active), default=now)
    if at > now:
        return Plan(wake_at=at)
    done = msgspec.structs.replace(status, state=UpdateState.COMPLETED, completed_at=now, message="update completed")
    return Plan((SetUpdateStatus(slots.service.id, slots.service.version, done),))
