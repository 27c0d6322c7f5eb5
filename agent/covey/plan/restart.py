# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces tasks that ended although they were wanted, and those whose node was lost.

The restart policy speaks about ends of the task's own making: how a loss of the node is answered does not depend on it.
The history it needs travels with the slot's newest task (``Task.restarts``: when each restart was to begin), so a new
leader goes on where the old one was.  The pauses are those of docs/adr/0010.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from covey.model import units
from covey.model.changes import Change, Create, Update
from covey.model.objects import Node, Task
from covey.model.spec import RestartCondition, RestartPolicy
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan
from covey.plan.moves import move
from covey.plan.slots import is_down, is_drained, is_over, next_task, told
from covey.state.view import View

#: Seconds to wait before the first, second, ... restart in a row; the last one stays.
PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
#: A task that lived this long ended for a new reason: the next restart is a first one.
STABLE = 120.0


def restart(view: View, now: float, new_id: NewId) -> Plan:
    """One successor for each wanted task that is over or on a lost node, or the decision that there will be none."""
    changes: list[Change] = []
    for task in view.tasks.values():
        if task.desired_state > TaskState.RUNNING or task.service_id not in view.services:
            continue
        if is_over(task):
            changes += _after_end(task, now, new_id)
        elif task.slot and task.node_id and _must_leave(view.nodes.get(task.node_id)):
            changes += move(task, now, new_id)
    return Plan(tuple(changes))


def _must_leave(node: Node | None) -> bool:
    return node is None or is_down(node) or is_drained(node)


def _after_end(task: Task, now: float, new_id: NewId) -> Iterator[Change]:
    if task.status.state is TaskState.ORPHANED:
        yield from move(task, now, new_id)
        return
    refusal = _refusal(task, now)
    if refusal:
        status = msgspec.structs.replace(task.status, message=refusal)
        yield Update(msgspec.structs.replace(told(task, TaskState.COMPLETE), status=status))
        return
    yield Update(told(task, TaskState.SHUTDOWN))
    yield Create(_successor(task, now, new_id()))


def _successor(task: Task, now: float, new_id: str) -> Task:
    pause = _pause(task, now)
    successor = next_task(task, new_id, now)
    status = successor.status
    if pause:
        status = msgspec.structs.replace(status, message=f"restart after a pause of {pause:g} s")
    restarts = (*task.restarts, now + pause)[-_remembered(task) :]
    return msgspec.structs.replace(successor, status=status, start_at=now + pause, restarts=restarts)


def _policy(task: Task) -> RestartPolicy:
    return task.spec.restart_policy or RestartPolicy()


def _refusal(task: Task, now: float) -> str:
    """Why there will be no successor, for a person; empty if there will be one."""
    policy = _policy(task)
    if policy.condition is RestartCondition.NONE:
        return "not restarted: the restart condition is none"
    if policy.condition is RestartCondition.ON_FAILURE and task.status.state is TaskState.COMPLETE:
        return "not restarted: it completed, and the restart condition is on-failure"
    if not policy.max_attempts:
        return ""
    since = now - units.seconds(policy.window) if policy.window else 0.0
    attempts = sum(1 for begun in task.restarts if begun > since)
    if attempts < policy.max_attempts:
        return ""
    within = f" within {units.seconds(policy.window):g} s" if policy.window else ""
    number = "1 restart" if attempts == 1 else f"{attempts} restarts"
    return f"not restarted: {number}{within}, and the restart policy allows {policy.max_attempts}"


def _pause(task: Task, now: float) -> float:
    delay = _policy(task).delay
    return units.seconds(delay) if delay is not None else PAUSES[min(_streak(task, now), len(PAUSES) - 1)]


def _streak(task: Task, now: float) -> int:
    """How many restarts in a row did not lead to a task that lived."""
    streak = 0
    for begun, ended in pairwise((*task.restarts, now)):
        streak = 0 if ended - begun >= STABLE else streak + 1
    return streak


def _remembered(task: Task) -> int:
    """How many restarts the history must hold for the pauses and the limit to be right."""
    return max(len(PAUSES), _policy(task).max_attempts or 0)
