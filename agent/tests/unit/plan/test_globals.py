# SPDX-License-Identifier: GPL-3.0-or-later
"""Global services: a task on each node that fits, and on no other."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, service, task, view

from covey.model.changes import Create, Update
from covey.model.spec import Availability
from covey.plan.globals import globals_

AGENT = service("agent", None)


def plan(*things):
    changes = globals_(view(*things), 50.0, Ids()).changes
    created = [change.object.node_id for change in changes if isinstance(change, Create)]
    return created, {c.object.id: c.object.desired_state for c in changes if isinstance(c, Update)}


def test_each_node_that_takes_tasks_gets_one():
    nodes = [
        node("n1"), node("n2"), node("n3", state="down"), node("n4", availability=Availability.PAUSE),
        node("n5", availability=Availability.DRAIN),
    ]  # fmt: skip
    assert plan(nodes, AGENT, task(AGENT, "n2")) == (["n1"], {})


def test_constraints_and_platforms_choose_nodes():
    some = service("agent", None, constraints=["node.labels.zone==a"])
    nodes = node("n1", labels={"zone": "a"}), node("n2"), node("n3")
    assert plan(nodes, some, task(some, "n3")) == (["n1"], {"tn3": S.SHUTDOWN})


@pytest.mark.parametrize("wrong", [{"state": "down"}, {"availability": Availability.DRAIN}])
def test_down_and_drained_nodes_lose_theirs(wrong):
    assert plan(node("n1", **wrong), AGENT, task(AGENT, "n1")) == ([], {"tn1": S.SHUTDOWN})


def test_paused_nodes_keep_theirs_even_if_they_stop_fitting():
    some = service("agent", None, constraints=["node.labels.zone==a"])
    assert plan(node("n1", availability=Availability.PAUSE), some, task(some, "n1")) == ([], {})


def test_a_finished_task_keeps_its_place():
    done = task(AGENT, "n1", S.COMPLETE, desired_state=S.COMPLETE)
    assert plan(node("n1"), AGENT, done) == ([], {})
    assert plan(node("n1", availability=Availability.DRAIN), AGENT, done) == ([], {})


def test_history_does_not_stand_in_the_way_and_stays():
    assert plan(node("n1"), AGENT, task(AGENT, "n1", S.SHUTDOWN, desired_state=S.SHUTDOWN)) == (["n1"], {})


def test_doubles_and_tasks_of_removed_nodes_or_of_a_former_replicated_life_go():
    tasks = [
        task(AGENT, "n1"), task(AGENT, "n1", S.ASSIGNED, id="double"), task(AGENT, "gone"), task(AGENT, 3),
        task(AGENT, "gone", S.FAILED, id="past", desired_state=S.SHUTDOWN),
        task(AGENT, "gone", S.FAILED, id="removed", desired_state=S.REMOVE),
    ]  # fmt: skip
    removed = dict.fromkeys(("double", "tgone", "t3", "past"), S.REMOVE)
    assert plan(node("n1"), AGENT, tasks) == ([], removed)


def test_leaves_replicated_services_alone():
    assert plan(node("n1"), service("web", 3)) == ([], {})
