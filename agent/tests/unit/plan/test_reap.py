# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deleted, and what is history."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, service, task, view

from covey.model.objects import Cluster
from covey.model.spec import ClusterSpec, Orchestration
from covey.plan.reap import reap

WEB = service("web", 1)


def deleted(*things):
    changes = reap(view(node("n1"), node("n2", state="down"), WEB, *things), 0.0, Ids()).changes
    return {change.id for change in changes}


def history(count, slot=1, **parts):
    parts = {"on": "n1", "desired_state": S.SHUTDOWN, **parts}
    return [task(WEB, slot, S.FAILED, id=f"h{slot}.{n}", created_at=float(n), **parts) for n in range(count)]


@pytest.mark.parametrize(
    ("parts", "gone"),
    [
        ({"state": S.RUNNING, "on": "n1", "desired_state": S.REMOVE}, False),
        ({"state": S.SHUTDOWN, "on": "n1", "desired_state": S.REMOVE}, True),
        ({"state": S.FAILED, "on": "n1", "desired_state": S.REMOVE}, True),
        ({"state": S.RUNNING, "on": "n2", "desired_state": S.REMOVE}, True),
        ({"state": S.RUNNING, "on": "removed", "desired_state": S.REMOVE}, True),
        ({"state": S.RUNNING, "on": "n2", "desired_state": S.SHUTDOWN}, False),
        ({"state": S.PENDING, "desired_state": S.REMOVE}, True),
        ({"state": S.PENDING, "desired_state": S.SHUTDOWN}, True),
        ({"state": S.PENDING, "desired_state": S.READY}, False),
        ({"state": S.FAILED, "on": "n1", "desired_state": S.RUNNING}, False),
        ({"state": S.COMPLETE, "on": "n1", "desired_state": S.COMPLETE}, False),
    ],
)
def test_a_task_goes_once_nobody_holds_anything_for_it(parts, gone):
    state = parts.pop("state")
    assert deleted(task(WEB, 1, state, **parts)) == ({"t1"} if gone else set())


def test_five_dead_ones_of_each_slot_are_kept_by_default():
    assert deleted(history(7), history(5, slot=2)) == {"h1.0", "h1.1"}


def test_the_wanted_task_is_not_part_of_the_history():
    assert deleted(task(WEB, 1, on="n1"), history(5)) == set()


@pytest.mark.parametrize(("limit", "left"), [(0, 0), (1, 1), (2, 2), (-1, 7), (None, 5)])
def test_the_cluster_says_how_many(limit, left):
    cluster = Cluster(id="c", spec=ClusterSpec(orchestration=Orchestration(task_history_retention_limit=limit)))
    assert len(deleted(cluster, history(7))) == 7 - left


def test_a_cluster_without_a_word_on_it_has_the_default():
    assert len(deleted(Cluster(id="c"), history(7))) == 2


def test_what_still_stops_is_no_history_yet():
    stopping = task(WEB, 1, S.RUNNING, id="stopping", on="n1", desired_state=S.SHUTDOWN, created_at=-5.0)
    assert deleted(stopping, history(6)) == {"h1.0"}
