# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares nodes down that were not heard of for three heartbeat periods.

The one planner that needs more than the view: when each node was last heard, which only the leader of the moment knows.
So a new leader gives every node it has not heard yet twice the time: a worker notices the loss of its manager only
after three periods of its own, and must not be taken for lost while it looks for the next.  An agent that restarts on
purpose says so first (``NodeStatus.back_by``), and a cluster that is recovered or restored says it of everybody, of
whom it knows nothing then.  Whatever the clock of the manager that wrote it down, nobody is waited for longer than
``RESTART_GRACE``, in the second case ``RETURN_GRACE``.  A node is ready again when its session begins; that is the
dispatcher's to say.
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
#: Periods that a new leader gives a node to find it.
AFTER_ELECTION = 6
#: Seconds for which a node that is expected back may be silent.
RESTART_GRACE = 30.0
#: The same where a person may have to tell it first where its manager is now.
RETURN_GRACE = 300.0


def liveness(view: View, heard: Mapping[str, float], period: float, since: float, now: float) -> Plan:
    """``heard``: when each node's last sign of life came; ``period`` in seconds, as told to the nodes.

    ``since``: when this manager began to lead, or to ask for this period.  What came before was at another pace.
    """
    changes: list[Change] = []
    wake_at: float | None = None
    for node in view.nodes.values():
        if node.status.state is NodeState.DOWN:
            continue
        last = heard.get(node.id)
        if last is None:
            last = max(since, node.created_at)
            deadline = max(since + AFTER_ELECTION * period, node.created_at + MISSED * period)
        else:
            deadline = max(last, since) + MISSED * period
        grace = RETURN_GRACE if node.status.state is NodeState.UNKNOWN else RESTART_GRACE
        deadline = max(deadline, min(node.status.back_by, last + grace))
        if deadline > now:
            wake_at = earliest(wake_at, deadline)
            continue
        text = f"heartbeat failure: nothing heard for {now - last:.3g} s"
        status = msgspec.structs.replace(node.status, state=NodeState.DOWN, message=text, since=now)
        changes.append(ObserveNode(node.id, status))
    return Plan(tuple(changes), wake_at)
