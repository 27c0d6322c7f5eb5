# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicated services: as many slots as replicas.

Invariant: after the plan exactly ``replicas`` slots hold a wanted task, each of them one, and the others hold nothing
that is not on its way out.  Which spec a slot runs, and whether its task is replaced, is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from itertools import count, islice

from covey.model.changes import Change, Create, Update
from covey.model.objects import Task
from covey.model.tasks import TaskState
from covey.plan.base import NewId, Plan
from covey.plan.slots import Slot, SlotKey, best_first, first_task, is_running, services_of_kind, slots_of, told
from covey.state.view import View

#: New slots of one service in one plan; the next round goes on from there.
MOST_AT_ONCE = 1000


def replicated(view: View, now: float, new_id: NewId) -> Plan:
    """Fill the lowest free slots; clear those that are too many."""
    changes: list[Change] = []
    for service in services_of_kind(view, is_global=False):
        slots = slots_of(view.tasks_of(service.id))
        held = {key: slot for key, slot in slots.items() if slot.wanted and isinstance(key, int)}
        filled = list(_free_slots(held, min(service.replicas - len(held), MOST_AT_ONCE)))
        kept = held.keys() - _surplus(held, service.replicas) | set(filled)
        changes += (Update(told(task, TaskState.REMOVE)) for task in _leftovers(slots, kept))
        changes += (Create(first_task(service, key, new_id(), now)) for key in filled)
    return Plan(tuple(changes))


def _free_slots(held: Mapping[int, Slot], missing: int) -> Iterator[int]:
    """The lowest free numbers."""
    return islice((number for number in count(1) if number not in held), max(0, missing))


def _surplus(held: Mapping[int, Slot], replicas: int) -> set[int]:
    """Slots to give up: those that do not run, then on nodes with the most copies, then the highest."""
    if len(held) <= replicas:
        return set()
    copies: Counter[str] = Counter()
    order = []
    for number in sorted(held):
        runs = next(filter(is_running, held[number].wanted), None)
        if runs is not None:
            copies[runs.node_id] += 1
        # The third copy on a node goes before any node's second one: removing by this number keeps the spread level.
        order.append((runs is None, copies[runs.node_id] if runs is not None else 0, number))
    order.sort(reverse=True)
    return {number for *_, number in order[: len(held) - replicas]}


def _leftovers(slots: Mapping[SlotKey, Slot], kept: Container[SlotKey]) -> Iterator[Task]:
    """Tasks to remove: all of a slot given up, history included, and every second task of a slot kept."""
    for key, slot in slots.items():
        if key in kept:
            yield from best_first(slot.wanted)[1:]
            continue
        yield from slot.wanted
        yield from (task for task in slot.past if task.desired_state is not TaskState.REMOVE)
