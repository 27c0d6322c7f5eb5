# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks without a service or a node."""

from __future__ import annotations

from builders import Ids, S, node, service, task, view

from covey.model.changes import ObserveTask, Update
from covey.plan.orphans import ORPHANED_AFTER, orphans

NOW = 100_000.0
WEB = service("web", 1)


def plan(*things):
    found = orphans(view(*things), NOW, Ids())
    return found.changes, found.wake_at


def test_tasks_of_a_removed_service_are_removed_once():
    changes, _ = plan(node("n1"), task(WEB, 1, on="n1"), task(WEB, 2, desired_state=S.REMOVE))
    assert [(type(c), c.object.id, c.object.desired_state) for c in changes] == [(Update, "t1", S.REMOVE)]


def test_tasks_of_a_removed_node_are_over():
    changes, wake_at = plan(WEB, task(WEB, 1, on="gone"), task(WEB, 2, S.FAILED, on="gone"), task(WEB, 3, S.PENDING))
    [change] = changes
    assert isinstance(change, ObserveTask)
    assert (change.id, change.status.state) == ("t1", S.ORPHANED)
    assert change.status.err == "node gone was removed from the cluster"
    assert wake_at is None


def test_a_day_after_its_node_went_down_a_task_is_over():
    dead = node("n1", state="down", since=NOW - ORPHANED_AFTER)
    changes, _ = plan(WEB, dead, task(WEB, 1, on="n1", desired_state=S.SHUTDOWN))
    assert [c.status.err for c in changes] == ["node n1 has been down for a day"]
    dying = node("n1", state="down", since=NOW - 10)
    assert plan(WEB, dying, task(WEB, 1, on="n1")) == ((), NOW - 10 + ORPHANED_AFTER)
    assert plan(WEB, dying, task(WEB, 1, S.FAILED, on="n1")) == ((), None)


def test_nodes_that_may_answer_keep_theirs():
    nodes = node("n1", state="ready"), node("n2", state="unknown")
    assert plan(WEB, *nodes, task(WEB, 1, on="n1"), task(WEB, 2, on="n2")) == ((), None)
