# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: gives each waiting task a node, or tells on the task why there is none.

Tasks of global services bring their node along and only pass the filters there.  A task in the pause before a restart
gets no node yet: preparing it would try again, too early, what may have failed.  The end of the pause wakes ``start``.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from covey.model.changes import Change, Update
from covey.model.objects import Task, TaskStatus
from covey.model.tasks import TaskState, is_wanted
from covey.plan.base import NewId, Plan
from covey.plan.placement.board import Seat, seats
from covey.plan.placement.filters import Filter, explain, filters_for
from covey.plan.placement.rank import rank, recent_failures
from covey.plan.slots import is_placed
from covey.state.view import View


def schedule(view: View, now: float, _new_id: NewId) -> Plan:
    """Place what waits, oldest service first."""
    groups = _waiting(view, now)
    if not groups:
        return Plan()
    board = seats(view)
    changes: list[Change] = []
    for group in groups:
        if group[0].node_id:
            changes += (change for task in group for change in _confirm(task, board, now))
        else:
            changes += _place(view, group, board, now)
    return Plan(tuple(changes))


def _waiting(view: View, now: float) -> list[list[Task]]:
    """Tasks without a node, or not admitted to theirs, grouped by what they ask for."""
    groups: dict[tuple[str, int, bool], list[Task]] = defaultdict(list)
    for task in view.tasks.values():
        paused = task.desired_state is TaskState.READY and task.start_at > now
        if not is_placed(task) and is_wanted(task.desired_state) and not paused:
            groups[task.service_id, task.service_version, bool(task.node_id)].append(task)
    for group in groups.values():
        group.sort(key=lambda task: (task.slot, task.created_at, task.id))
    return sorted(groups.values(), key=lambda group: (min(task.created_at for task in group), group[0].service_id))


def _confirm(task: Task, board: dict[str, Seat], now: float) -> Iterator[Change]:
    """Let a task onto the node it was made for, if that one will do."""
    seat = board.get(task.node_id)
    filters = filters_for(task)
    if seat is not None and all(each.check(seat) for each in filters):
        yield _assign(task, seat, now)
        return
    yield from _refuse(task, explain(filters, [seat] if seat else []), now)


def _place(view: View, group: Sequence[Task], board: dict[str, Seat], now: float) -> Iterator[Change]:
    """Give each of the tasks, which are all alike, the node that is best at that moment."""
    first = group[0]
    filters = filters_for(first)
    failures = recent_failures(view.tasks_of(first.service_id), first.service_version, now)
    heap = [
        (rank(seat, first.service_id, failures[node_id]), seat)
        for node_id, seat in board.items()
        if all(each.check(seat) for each in filters)
    ]
    heapq.heapify(heap)
    for number, task in enumerate(group):
        seat = _best(heap, filters)
        if seat is None:
            text = explain(filters, list(board.values()))
            for left in group[number:]:
                yield from _refuse(left, text, now)
            return
        yield _assign(task, seat, now)
        heapq.heappush(heap, (rank(seat, first.service_id, failures[seat.node.id]), seat))


def _best(heap: list[tuple[tuple[int, int, int, str], Seat]], filters: Sequence[Filter]) -> Seat | None:
    """The best node that still has room, taken off the heap; the keys differ, so seats are never compared."""
    while heap:
        _, seat = heapq.heappop(heap)
        if all(each.check(seat) for each in filters):
            return seat
    return None


def _assign(task: Task, seat: Seat, now: float) -> Update:
    seat.add(task)
    status = TaskStatus(state=TaskState.ASSIGNED, timestamp=now, message="scheduler assigned task to node")
    return Update(msgspec.structs.replace(task, node_id=seat.node.id, status=status))


def _refuse(task: Task, text: str, now: float) -> Iterator[Change]:
    """Say why the task waits, unless it says so already."""
    if task.status.err != text:
        status = msgspec.structs.replace(task.status, state=TaskState.PENDING, timestamp=now, err=text)
        yield Update(msgspec.structs.replace(task, status=status))
