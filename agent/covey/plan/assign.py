# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tasks a node must know, and what changed since it was told.

A pure reading of the view, not a planner: the dispatcher sends the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from covey.model.objects import Task
from covey.model.tasks import TaskState
from covey.plan.slots import is_placed
from covey.state.view import View


def assigned(view: View, node_id: str) -> dict[str, Task]:
    """The tasks of that node by id, dead ones included, whose containers are kept for their logs.

    An orphan is left out: it was declared over unheard, so whatever is left of it on a returning node must go.
    """
    return {
        task.id: task
        for task in view.tasks_on(node_id)
        if is_placed(task) and task.status.state is not TaskState.ORPHANED
    }


def versions(tasks: Mapping[str, Task]) -> dict[str, int]:
    """What to remember of a set that was sent."""
    return {task_id: task.version for task_id, task in tasks.items()}


def difference(sent: Mapping[str, int], tasks: Mapping[str, Task]) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """The tasks to send to a node that knows ``sent``, and the ids to take back.

    Versions tell: what the node itself reports of a task does not move them, so it is not sent back.
    """
    changed = tuple(task for task_id, task in tasks.items() if sent.get(task_id) != task.version)
    return changed, tuple(task_id for task_id in sent if task_id not in tasks)
