# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares nodes down that were not heard of for three heartbeat periods.

The one planner that needs more than the view: when each node was last heard, which only the leader of the moment knows.
So after a change of leader every node has the full time again.  A node is ready again when its session begins; that
is the dispatcher's to say.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from covey.model.changes import Change, ObserveNode
from covey.model.objects import NodeState
from covey.plan.base import Plan, earliest
from covey.state.view import View

#: Missed heartbeats after which a node is down.
MISSED = 3


def liveness(view: View, heard: Mapping[str, float], period: float, leader_since: float, now: float) -> Plan:
    """``heard``: when each node's last sign of life came; ``period`` in seconds, as told to the nodes."""
    changes: list[Change] = []
    wake_at: float | None = None
    for node in view.nodes.values():
        if node.status.state is NodeState.DOWN:
            continue
        last = max(heard.get(node.id, 0.0), leader_since, node.created_at)
        deadline = last + MISSED * period
        if deadline > now:
            wake_at = earliest(wake_at, deadline)
            continue
        text = f"heartbeat failure: nothing heard for {now - last:.3g} s"
        status = msgspec.structs.replace(node.status, state=NodeState.DOWN, message=text, since=now)
        changes.append(ObserveNode(node.id, status))
    return Plan(tuple(changes), wake_at)
