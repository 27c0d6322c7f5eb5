# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves tasks off nodes that stopped meeting the constraints they were placed under, as when a label was changed.

Global services see to this by themselves, and a service whose constraints were changed is updated at its own pace.
Only nodes that are ready and active are judged; others are being left or left alone for other reasons.
"""

from __future__ import annotations

from covey.model.changes import Change
from covey.model.tasks import is_wanted
from covey.plan.base import NewId, Plan
from covey.plan.moves import move
from covey.plan.placement.constraint import broken
from covey.plan.slots import is_over, is_placed
from covey.state.view import View


def enforce(view: View, now: float, new_id: NewId) -> Plan:
    """Move each wanted task whose node no longer will do."""
    changes: list[Change] = []
    for node in view.nodes.values():
        if not node.schedulable:
            continue
        for task in view.tasks_on(node.id):
            placement = task.spec.placement
            if placement is None or not placement.constraints or not task.slot or task.service_id not in view.services:
                continue
            alive = is_wanted(task.desired_state) and is_placed(task) and not is_over(task)
            if alive and broken(placement, node):
                changes += move(task, now, new_id)
    return Plan(tuple(changes))
