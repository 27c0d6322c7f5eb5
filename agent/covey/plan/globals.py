# SPDX-License-Identifier: GPL-3.0-or-later
"""Global services: one task on each node that fits.

Invariant: after the plan each ready, active node that meets the service's constraints and platforms holds one wanted
task, and no drained or down node and no node that stopped fitting holds any.  Paused nodes keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from covey.model.changes import Change, Create, Update
from covey.model.objects import Node, Service, Task
from covey.model.spec import Availability
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan
from covey.plan.placement.constraint import fits
from covey.plan.slots import (
    Slot,
    SlotKey,
    best_first,
    first_task,
    is_down,
    is_drained,
    is_finished,
    services_of_kind,
    slots_of,
    told,
)
from covey.state.view import View


def globals_(view: View, now: float, new_id: NewId) -> Plan:
    """Give a task to each node that should have one; stop those that should not run."""
    changes: list[Change] = []
    for service in services_of_kind(view, is_global=True):
        slots = slots_of(view.tasks_of(service.id))
        changes += (Update(task) for task in _unwanted(view, service, slots))
        changes += (Create(first_task(service, key, new_id(), now)) for key in _missing(view, service, slots))
    return Plan(tuple(changes))


def _missing(view: View, service: Service, slots: Mapping[SlotKey, Slot]) -> Iterator[str]:
    """Nodes that should run the service and do not."""
    for node_id, node in view.nodes.items():
        slot = slots.get(node_id)
        if node.schedulable and not (slot and slot.wanted) and fits(service.spec.task_template, node):
            yield node_id


def _unwanted(view: View, service: Service, slots: Mapping[SlotKey, Slot]) -> Iterator[Task]:
    """Tasks that should go, as they should be: those of a numbered slot or of a lost node altogether."""
    for key, slot in slots.items():
        node = view.nodes.get(key) if isinstance(key, str) else None
        if node is None:
            yield from (told(task, TaskState.REMOVE) for task in slot.wanted)
            yield from (told(task, TaskState.REMOVE) for task in slot.past if task.desired_state < TaskState.REMOVE)
            continue
        wanted = best_first(slot.wanted)
        yield from (told(task, TaskState.REMOVE) for task in wanted[1:])
        if wanted and not is_finished(wanted[0]) and not _may_stay(service, node):
            yield told(wanted[0], TaskState.SHUTDOWN)


def _may_stay(service: Service, node: Node) -> bool:
    if is_down(node) or is_drained(node):
        return False
    return node.spec.availability is Availability.PAUSE or fits(service.spec.task_template, node)
