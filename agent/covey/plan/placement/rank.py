# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the nodes that fit is best: the one with the smallest key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from covey.model.objects import Task
from covey.model.tasks import failed
from covey.plan.placement.board import Seat

#: A node where a service's tasks failed this often, this recently, is taken last.
FAILURES = 5
RECENTLY = 300.0

Key = tuple[int, int, int, str]


def recent_failures(tasks: Iterable[Task], service_version: int, now: float) -> Counter[str]:
    """By node, how many of the service's tasks under that spec failed lately."""
    return Counter(
        task.node_id
        for task in tasks
        if failed(task.status.state) and task.service_version == service_version and task.ended_at > now - RECENTLY
    )


def rank(seat: Seat, service_id: str, failures: int) -> Key:
    """Few failures first, then few tasks of the service, then few tasks, then any fixed order."""
    return (failures if failures >= FAILURES else 0, seat.of_service[service_id], seat.tasks, seat.node.id)
