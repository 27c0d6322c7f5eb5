# SPDX-License-Identifier: GPL-3.0-or-later
"""The words planners share: slots, which tasks are wanted, alive or lost, and how a task for a slot is made.

No decision is taken here.  A slot is the place of one copy of a service: its number, or for a global service its node.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from covey.model.objects import Node, NodeState, Service, Task, TaskStatus
from covey.model.spec import Availability
from covey.model.tasks import TaskState, is_terminal, is_wanted
from covey.state.view import View

SlotKey = int | str


class Slot:
    """The tasks of one slot: ``wanted`` (one, unless something went wrong) and ``past``, those told to go."""

    __slots__ = ("past", "wanted")

    def __init__(self) -> None:
        self.wanted: list[Task] = []
        self.past: list[Task] = []


def slot_key(task: Task) -> SlotKey:
    """Slot number, or node id of a global service's task."""
    return task.slot or task.node_id


def slots_of(tasks: Iterable[Task]) -> dict[SlotKey, Slot]:
    """The slots of one service's tasks."""
    slots: dict[SlotKey, Slot] = {}
    for task in tasks:
        key = task.slot or task.node_id
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot()
        (slot.wanted if is_wanted(task.desired_state) else slot.past).append(task)
    return slots


def is_over(task: Task) -> bool:
    """The task has ended, or its end was declared."""
    return is_terminal(task.status.state)


def is_placed(task: Task) -> bool:
    """A node knows, or is about to learn, of the task."""
    return task.status.state >= TaskState.ASSIGNED


def is_running(task: Task) -> bool:
    """Wanted, and seen running."""
    return task.status.state is TaskState.RUNNING and is_wanted(task.desired_state)


def is_finished(task: Task) -> bool:
    """Over, and by its restart policy without a successor; it keeps its slot."""
    return task.desired_state is TaskState.COMPLETE


def is_down(node: Node | None) -> bool:
    """Nothing runs there as far as anybody can tell: the node was removed, or not heard of for too long."""
    return node is None or node.status.state is NodeState.DOWN


def is_drained(node: Node) -> bool:
    """The user wants the node empty."""
    return node.spec.availability is Availability.DRAIN


def best_first(tasks: list[Task]) -> list[Task]:
    """Furthest on the way to running first, dead ones last, then the oldest."""
    if len(tasks) < 2:
        return tasks
    return sorted(tasks, key=lambda task: (is_over(task), -task.status.state, task.created_at, task.id))


def told(task: Task, desired: TaskState) -> Task:
    """``task`` with another desired state."""
    return msgspec.structs.replace(task, desired_state=desired)


def first_task(service: Service, key: SlotKey, new_id: str, now: float) -> Task:
    """A task for that slot, made from the service's spec of today.

    Like every new task it waits at READY; the planner ``start`` lets it run as soon as its slot is clear.
    """
    ports = service.spec.endpoint_spec.ports if service.spec.endpoint_spec else None
    return Task(
        id=new_id,
        service_id=service.id,
        service_name=service.spec.name,
        service_version=service.version,
        slot=key if isinstance(key, int) else 0,
        node_id=key if isinstance(key, str) else "",
        spec=service.spec.task_template,
        service_labels=service.spec.labels,
        ports=tuple(ports or ()),
        status=waiting(now),
        desired_state=TaskState.READY,
    )


def next_task(old: Task, new_id: str, now: float) -> Task:
    """Another attempt at what ``old`` was to do, under the same spec."""
    return Task(
        id=new_id,
        service_id=old.service_id,
        service_name=old.service_name,
        service_version=old.service_version,
        slot=old.slot,
        node_id="" if old.slot else old.node_id,
        spec=old.spec,
        service_labels=old.service_labels,
        ports=old.ports,
        status=waiting(now),
        desired_state=TaskState.READY,
        start_at=old.start_at,
        restarts=old.restarts,
        replaces=old.id,
    )


def waiting(now: float) -> TaskStatus:
    """The status of a task that no node has yet."""
    return TaskStatus(state=TaskState.PENDING, timestamp=now, message="pending task scheduling")


def services_of_kind(view: View, is_global: bool) -> Iterable[Service]:
    """The global services, or the replicated ones."""
    return (service for service in view.services.values() if service.is_global == is_global)
