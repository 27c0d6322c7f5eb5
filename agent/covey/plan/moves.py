# SPDX-License-Identifier: GPL-3.0-or-later
"""How a task leaves its node: it is told to stop, and another attempt at the same takes its slot.

Shared by the planners that find reasons to leave; holds no reason itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from covey.model.changes import Change, Create, Update
from covey.model.objects import Task
from covey.model.tasks import TaskState
from covey.plan.base import NewId
from covey.plan.slots import next_task, told


def move(task: Task, now: float, new_id: NewId) -> Iterator[Change]:
    """Stop ``task``, and have its slot filled as soon as it is clear; not a restart of its own doing."""
    yield Update(told(task, TaskState.SHUTDOWN))
    yield Create(next_task(task, new_id(), now))
