# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes go down after three silent periods, counted anew by each leader."""

from __future__ import annotations

import pytest
from builders import node, view

from covey.model.objects import NodeState
from covey.plan.liveness import liveness

PERIOD = 2.0


def plan(*nodes, heard=None, since=0.0, now=100.0):
    found = liveness(view(*nodes), heard or {}, PERIOD, since, now)
    return {change.id: change.status for change in found.changes}, found.wake_at


def test_three_missed_heartbeats_are_down():
    downs, wake_at = plan(node("n1", address="10.0.0.1", since=5.0), node("n2"), heard={"n1": 94.0, "n2": 94.5})
    status = downs["n1"]
    assert (status.state, status.address, status.since) == (NodeState.DOWN, "10.0.0.1", 100.0)
    assert status.message == "heartbeat failure: nothing heard for 6 s"
    assert list(downs) == ["n1"]
    assert wake_at == 100.5


def test_a_new_leader_gives_who_did_not_call_yet_twice_the_time():
    assert plan(node("n1"), since=99.0) == ({}, 111.0)
    assert list(plan(node("n1"), since=88.0)[0]) == ["n1"]


def test_who_called_a_new_leader_has_the_usual_time():
    assert plan(node("n1"), heard={"n1": 99.5}, since=99.0) == ({}, 105.5)
    assert list(plan(node("n1"), heard={"n1": 10.0}, since=94.0)[0]) == ["n1"]


def test_so_does_a_node_that_was_just_let_in():
    assert plan(node("n1", state="unknown", created_at=98.0)) == ({}, 104.0)


def test_what_was_heard_at_another_pace_does_not_count():
    assert plan(node("n1"), heard={"n1": 80.0}, since=99.0) == ({}, 105.0)


@pytest.mark.parametrize("state", ["unknown", "disconnected", "ready"])
def test_every_state_but_down_ends_down(state):
    assert list(plan(node("n1", state=state))[0]) == ["n1"]


def test_what_is_down_stays_down():
    assert plan(node("n1", state="down")) == ({}, None)


def test_an_agent_that_said_it_restarts_is_waited_for():
    restarting = node("n1", back_by=120.0)
    assert plan(restarting, heard={"n1": 93.0}) == ({}, 120.0)
    assert list(plan(restarting, heard={"n1": 93.0}, now=120.0)[0]) == ["n1"]


def test_a_new_leader_knows_it_and_waits_as_long():
    assert plan(node("n1", back_by=120.0), since=99.0, now=115.0) == ({}, 120.0)


def test_a_restart_that_was_over_long_ago_changes_nothing():
    assert list(plan(node("n1", back_by=90.0), heard={"n1": 94.0})[0]) == ["n1"]


@pytest.mark.parametrize("back_by", [1e9, float("inf")])
def test_nobody_is_waited_for_without_end_whatever_a_clock_said(back_by):
    assert plan(node("n1", back_by=back_by), heard={"n1": 90.0}) == ({}, 120.0)
    assert plan(node("n1", back_by=back_by), since=95.0) == ({}, 125.0)
    assert list(plan(node("n1", back_by=back_by), heard={"n1": 70.0})[0]) == ["n1"]
