# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts: which ends are followed by another attempt, after which pause, and which losses are moved."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, replace, service, task, view

from covey.model.changes import Create, Update
from covey.model.spec import Availability, RestartCondition
from covey.model.units import SECOND
from covey.plan.restart import PAUSES, STABLE, restart

NOW = 1000.0


def plan(*things):
    found = restart(view(*things), NOW, Ids())
    assert found.wake_at is None
    told = {c.object.id: c.object for c in found.changes if isinstance(c, Update)}
    return told, [c.object for c in found.changes if isinstance(c, Create)]


def dead(state=S.FAILED, policy=None, **parts):
    web = service("web", 1, policy=policy)
    return node("n1"), web, task(web, 1, state, on="n1", **parts)


def test_the_first_restart_is_at_once_and_elsewhere_if_the_scheduler_likes():
    told, [successor] = plan(*dead(service_version=5))
    assert told["t1"].desired_state is S.SHUTDOWN
    assert (successor.slot, successor.node_id, successor.replaces) == (1, "", "t1")
    assert (successor.start_at, successor.restarts, successor.service_version) == (NOW, (NOW,), 5)
    assert (successor.desired_state, successor.status.state) == (S.READY, S.PENDING)


def test_a_global_task_is_restarted_on_its_node():
    agent = service("agent", None)
    _, [successor] = plan(node("n1"), agent, task(agent, "n1", S.FAILED))
    assert (successor.slot, successor.node_id) == (0, "n1")


@pytest.mark.parametrize("number", range(1, 12))
def test_pauses_grow_and_then_stay(number):
    restarts = tuple(NOW - number + n for n in range(number))
    _, [successor] = plan(*dead(restarts=restarts))
    assert successor.start_at == NOW + PAUSES[min(number, len(PAUSES) - 1)]
    assert successor.restarts[-1] == successor.start_at
    assert len(successor.restarts) == min(number + 1, len(PAUSES))


def test_a_task_that_lived_starts_afresh():
    _, [successor] = plan(*dead(restarts=(NOW - STABLE - 3, NOW - STABLE - 1, NOW - STABLE)))
    assert successor.start_at == NOW
    _, [successor] = plan(*dead(restarts=(NOW - STABLE - 5, NOW - 5)))
    assert successor.start_at == NOW + PAUSES[1]


@pytest.mark.parametrize(("delay", "pause"), [(0, 0.0), (7 * SECOND, 7.0)])
def test_a_declared_delay_is_obeyed_to_the_letter(delay, pause):
    for restarts in ((), (NOW - 2, NOW - 1)):
        _, [successor] = plan(*dead(policy={"delay": delay}, restarts=restarts))
        assert successor.start_at == NOW + pause
        expected = f"restart after a pause of {pause:g} s" if pause else "pending task scheduling"
        assert successor.status.message == expected


@pytest.mark.parametrize(
    ("condition", "state", "replaced"),
    [
        (None, S.COMPLETE, True), ("any", S.COMPLETE, True), ("on-failure", S.COMPLETE, False),
        ("on-failure", S.FAILED, True), ("on-failure", S.REJECTED, True), ("none", S.FAILED, False),
        ("none", S.COMPLETE, False), ("any", S.SHUTDOWN, True),
    ],
)  # fmt: skip
def test_the_condition_decides(condition, state, replaced):

    told, created = plan(*dead(state, policy={"condition": condition and RestartCondition(condition)}, err="boom"))
    assert bool(created) is replaced
    assert told["t1"].desired_state is (S.SHUTDOWN if replaced else S.COMPLETE)
    assert told["t1"].status.err == "boom"
    assert told["t1"].status.message.startswith("not restarted") is not replaced


def test_attempts_are_counted_for_ever_or_within_the_window():
    restarts = (NOW - 100, NOW - 50, NOW - 10)
    told, created = plan(*dead(policy={"max_attempts": 3}, restarts=restarts))
    assert not created
    assert told["t1"].status.message == "not restarted: 3 restarts, and the restart policy allows 3"
    assert plan(*dead(policy={"max_attempts": 4}, restarts=restarts))[1]
    assert plan(*dead(policy={"max_attempts": 2, "window": 20 * SECOND}, restarts=restarts))[1]
    told, _ = plan(*dead(policy={"max_attempts": 1}, restarts=restarts[:1]))
    assert told["t1"].status.message == "not restarted: 1 restart, and the restart policy allows 1"
    told, created = plan(*dead(policy={"max_attempts": 2, "window": 60 * SECOND}, restarts=restarts))
    assert not created
    assert "2 restarts within 60 s" in told["t1"].status.message


def test_the_history_is_long_enough_for_the_limit():
    restarts = tuple(float(number) for number in range(20))
    _, [successor] = plan(*dead(policy={"max_attempts": 21}, restarts=restarts))
    assert successor.restarts == (*restarts, NOW + PAUSES[0])


def test_what_is_over_for_good_or_told_to_go_stays():
    for desired in (S.COMPLETE, S.SHUTDOWN, S.REMOVE):
        assert plan(*dead(desired_state=desired)) == ({}, [])


@pytest.mark.parametrize("lost", [{"state": "down"}, {"availability": Availability.DRAIN}])
@pytest.mark.parametrize("policy", [None, {"condition": "none", "delay": 60 * SECOND}])
def test_a_lost_node_moves_tasks_whatever_the_policy(lost, policy):
    web = service("web", 1, policy=policy)
    told, [successor] = plan(node("n1", **lost), web, task(web, 1, on="n1", restarts=(5.0,), start_at=5.0))
    assert told["t1"].desired_state is S.SHUTDOWN
    assert (successor.restarts, successor.start_at, successor.replaces) == ((5.0,), 5.0, "t1")


def test_tasks_of_a_removed_node_move_heard_or_not():
    web = service("web", 2)
    _, created = plan(web, task(web, 1, on="gone"), task(web, 2, S.ORPHANED, on="gone"))
    assert [t.slot for t in created] == [1, 2]
    assert all(t.restarts == () for t in created)


def test_stays_where_it_is_on_paused_and_unheard_nodes():
    web = service("web", 2)
    nodes = node("n1", availability=Availability.PAUSE), node("n2", state="unknown")
    assert plan(*nodes, web, task(web, 1, on="n1"), task(web, 2, on="n2"), task(web, 3, S.PENDING)) == ({}, [])


def test_global_tasks_are_not_moved():
    agent = service("agent", None)
    assert plan(node("n1", state="down"), agent, task(agent, "n1")) == ({}, [])


def test_tasks_without_a_service_are_not_restarted():
    things = dead()
    assert plan(things[0], replace(things[2], service_id="gone")) == ({}, [])
