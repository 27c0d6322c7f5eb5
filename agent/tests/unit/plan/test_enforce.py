# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks leave nodes that stopped meeting their constraints."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, service, task, view

from covey.model.changes import Create, Update
from covey.model.spec import Availability
from covey.plan.enforce import enforce

PICKY = service("picky", 1, constraints=["node.labels.zone==a"])


def plan(*things):
    changes = enforce(view(*things), 50.0, Ids()).changes
    moved = [c.object.id for c in changes if isinstance(c, Update) and c.object.desired_state is S.SHUTDOWN]
    return moved, [c.object.replaces for c in changes if isinstance(c, Create)]


def test_moves_what_its_node_no_longer_suits():
    nodes = node("n1", labels={"zone": "b"}), node("n2", labels={"zone": "a"})
    tasks = task(PICKY, 1, on="n1"), task(PICKY, 2, on="n2"), task(service("web"), 1, id="web", on="n1")
    assert plan(*nodes, PICKY, service("web"), *tasks) == (["t1"], ["t1"])


@pytest.mark.parametrize(
    "parts",
    [{"desired_state": S.SHUTDOWN}, {"desired_state": S.COMPLETE, "state": S.COMPLETE}, {"state": S.FAILED}],
)
def test_leaves_alone_what_is_over_or_going(parts):
    state = parts.pop("state", S.RUNNING)
    assert plan(node("n1"), PICKY, task(PICKY, 1, state, on="n1", **parts)) == ([], [])


def test_leaves_alone_nodes_that_are_not_in_service():
    for wrong in ({"state": "down"}, {"availability": Availability.PAUSE}):
        assert plan(node("n1", **wrong), PICKY, task(PICKY, 1, on="n1")) == ([], [])


def test_leaves_alone_global_tasks_and_tasks_without_a_service():
    everywhere = service("everywhere", None, constraints=["node.labels.zone==a"])
    assert plan(node("n1"), everywhere, task(everywhere, "n1"), task(PICKY, 1, on="n1")) == ([], [])


def test_platforms_alone_move_nothing():
    web = service("web", 1, platforms=[])
    assert plan(node("n1"), web, task(web, 1, on="n1")) == ([], [])
