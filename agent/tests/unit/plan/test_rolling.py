# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling updates: begun, paced, paused by the first failure, completed after the monitor."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, replace, service, task, view

from covey.model.changes import Create, SetUpdateStatus, Update
from covey.model.objects import UpdateState, UpdateStatus
from covey.model.spec import Availability, RestartCondition
from covey.plan.rolling import MONITOR, rolling

NOW = 1000.0
OLD = service("web", 4, version=1)
UPDATING = UpdateStatus(state=UpdateState.UPDATING, started_at=NOW - 60, message="update in progress")


def new(replicas=4, status=UPDATING, **parts):
    return service("web", replicas, version=2, image="busybox:2", update_status=status, **parts)


def plan(*things, now=NOW):
    """Ids told to stop, the tasks that replace them, the status set and the wake-up."""
    found = rolling(view(node("n1"), *things), now, Ids())
    stopped = [c.object.id for c in found.changes if isinstance(c, Update)]
    assert all(c.object.desired_state is S.SHUTDOWN for c in found.changes if isinstance(c, Update))
    created = [c.object for c in found.changes if isinstance(c, Create)]
    assert [t.replaces for t in created] == stopped
    [status] = [c.status for c in found.changes if isinstance(c, SetUpdateStatus)] or [None]
    return stopped, created, status, found.wake_at


def olds(*slots, state=S.RUNNING, **parts):
    return [task(OLD, slot, state, on="n1", **parts) for slot in slots]


def news(of, *slots, state=S.RUNNING, **parts):
    parts = {"created_at": NOW - 20, "running_at": NOW - 10, **parts}
    return [task(of, slot, state, id=f"new{slot}", on="n1", **parts) for slot in slots]


def test_begins_with_one_slot():
    stopped, [created], status, _ = plan(new(status=None), olds(1, 2, 3, 4))
    assert stopped == ["t1"]
    assert (created.slot, created.service_version, created.spec.container_spec.image) == (1, 2, "busybox:2")
    assert (created.desired_state, created.restarts) == (S.READY, ())
    assert (status.state, status.started_at, status.message) == (UpdateState.UPDATING, NOW, "update in progress")


@pytest.mark.parametrize("status", [None, UpdateStatus(state=UpdateState.COMPLETED)])
def test_nothing_to_do(status):
    web = new(status=status)
    assert plan(web, news(web, 1, 2, 3, 4)) == ([], [], None, None)
    scaled = service("web", 9, version=7, update_status=status)
    assert plan(scaled, olds(1, 2)) == ([], [], None, None)


def test_a_later_drift_begins_another_update():
    _, _, status, _ = plan(new(status=UpdateStatus(state=UpdateState.COMPLETED)), olds(1))
    assert status.state is UpdateState.UPDATING


@pytest.mark.parametrize(("parallelism", "count"), [(None, 1), (1, 1), (2, 2), (0, 4), (9, 4)])
def test_parallelism_is_how_many_at_once(parallelism, count):
    assert len(plan(new(parallelism=parallelism), olds(1, 2, 3, 4))[0]) == count


def test_waits_until_the_new_task_runs():
    web = new()
    assert plan(web, olds(2, 3, 4), news(web, 1, state=S.PREPARING)) == ([], [], None, None)
    assert plan(web, olds(2, 3, 4), news(web, 1))[0] == ["t2"]


def test_two_at_a_time_go_on_one_by_one():
    web = new(parallelism=2)
    assert plan(web, olds(3, 4), news(web, 1), news(web, 2, state=S.STARTING))[0] == ["t3"]


def test_slots_that_do_not_run_come_first_and_running_ones_wait_for_them():
    assert plan(new(), olds(1, 2, 3), olds(4, state=S.PREPARING))[0] == ["t4"]
    assert plan(new(parallelism=2), olds(1, 2), olds(3, 4, state=S.FAILED))[0] == ["t3", "t4"]
    assert plan(new(parallelism=3), olds(1, 2), olds(3, 4, state=S.FAILED))[0] == ["t3", "t4", "t1"]


def test_a_slot_of_the_new_spec_that_broke_down_counts():
    web = new()
    broken = news(web, 1, state=S.FAILED, ended_at=NOW - 1)
    assert plan(web, olds(2, 3, 4), broken)[0] == []


def test_what_is_on_a_down_node_does_not_run():
    web = new()
    lost = [replace(each, node_id="n2") for each in olds(4)]
    assert plan(web, node("n2", state="down"), olds(1, 2, 3), lost)[0] == ["t4"]


def test_finished_slots_neither_count_nor_hold_it_up():
    web = new(policy={"condition": RestartCondition.NONE})
    done = news(web, 1, state=S.COMPLETE, desired_state=S.COMPLETE, ended_at=NOW - 1)
    assert plan(web, olds(2, 3), done)[0] == ["t2"]
    old_done = olds(1, state=S.COMPLETE, desired_state=S.COMPLETE)
    assert plan(new(), old_done, olds(2))[0] == ["t1"]


def test_global_services_are_updated_node_by_node_except_where_no_tasks_are_taken():
    old = service("agent", None, version=1)
    agent = service("agent", None, version=2, image="busybox:2")
    paused = node("n0", availability=Availability.PAUSE)
    stopped, [created], _, _ = plan(paused, node("n2"), agent, [task(old, name) for name in ("n0", "n1", "n2", "n3")])
    assert stopped == ["tn1"]
    assert (created.node_id, created.slot) == ("n1", 0)


def failed_one(web, **parts):
    return news(web, 1, **{"state": S.FAILED, "err": "exit (1)", "ended_at": NOW - 10 + MONITOR - 0.1, **parts})


def test_the_first_failure_pauses_and_is_named():
    web = new()
    stopped, created, status, _ = plan(web, olds(2, 3, 4), failed_one(web))
    assert (stopped, created) == ([], [])
    assert (status.state, status.started_at) == (UpdateState.PAUSED, NOW - 60)
    text = "update paused due to failure or early termination of task web.1.new1 on n1-host: exit (1)"
    assert status.message == text
    assert plan(new(status=status), olds(2, 3, 4), failed_one(web)) == ([], [], None, None)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"running_at": 0.0, "state": S.REJECTED, "err": "No such image"}, "on n1-host: No such image"),
        ({"on": "gone", "err": "", "desired_state": S.SHUTDOWN}, "on gone: failed"),
        ({"state": S.COMPLETE, "err": ""}, "on n1-host: complete"),
    ],
)
def test_every_early_end_is_a_failure(parts, why):
    web = new()
    on = parts.pop("on", "n1")
    failed = [replace(each, node_id=on) for each in failed_one(web, **parts)]
    assert plan(web, olds(2), failed)[2].message.endswith(why)


@pytest.mark.parametrize(
    "parts",
    [
        {"ended_at": NOW - 10 + MONITOR},  # it had run long enough
        {"created_at": NOW - 61},  # before this update
        {"state": S.SHUTDOWN},  # it was told to
    ],
)
def test_other_ends_are_not(parts):
    web = new()
    assert plan(web, olds(2, 3, 4), failed_one(web, **parts), news(web, 1))[2] is None


def test_tasks_of_another_spec_do_not_fail_this_update():
    assert plan(new(), olds(1, state=S.FAILED, created_at=NOW - 5), olds(2))[2] is None


def test_a_good_end_is_no_failure_where_none_follows():
    web = new(policy={"condition": RestartCondition.ON_FAILURE})
    assert plan(web, olds(2), failed_one(web, state=S.COMPLETE))[2] is None


def test_completes_once_every_slot_has_run_for_the_monitor():
    web = new(2)
    assert plan(web, news(web, 1), news(web, 2, running_at=NOW - 1)) == ([], [], None, NOW - 1 + MONITOR)
    assert plan(web, news(web, 1), news(web, 2, state=S.STARTING)) == ([], [], None, None)
    _, _, status, wake_at = plan(web, news(web, 1), news(web, 2, running_at=NOW - MONITOR))
    assert (status.state, status.started_at, status.completed_at) == (UpdateState.COMPLETED, NOW - 60, NOW)
    assert status.message == "update completed"
    assert wake_at is None


def test_without_slots_it_is_complete():
    assert plan(new(0))[2].state is UpdateState.COMPLETED
