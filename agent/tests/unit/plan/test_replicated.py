# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots of replicated services: filled from below, given up where it costs least."""

from __future__ import annotations

from builders import Ids, S, node, service, task, view

from covey.model.changes import Create, Update
from covey.model.spec import ServiceSpec
from covey.plan import replicated as room
from covey.plan.replicated import replicated


def plan(*things):
    changes = replicated(view(node("n1"), node("n2"), *things), 50.0, Ids()).changes
    created = [change.object for change in changes if isinstance(change, Create)]
    removed = {change.object.id for change in changes if isinstance(change, Update)}
    assert all(c.object.desired_state is S.REMOVE for c in changes if isinstance(c, Update))
    return created, removed


def test_creates_whole_tasks_from_the_spec():
    web = service("web", 2, version=7, ports=[80], labels={"a": "b"}, image="x:1")
    created, removed = plan(web)
    assert [t.slot for t in created] == [1, 2]
    first = created[0]
    assert (first.id, first.service_id, first.service_name, first.service_version) == ("new0001", "s-web", "web", 7)
    assert (first.spec, first.service_labels) == (web.spec.task_template, {"a": "b"})
    assert [port.published_port for port in first.ports] == [80]
    assert (first.node_id, first.desired_state, first.status.state) == ("", S.READY, S.PENDING)
    assert (first.status.timestamp, first.status.message) == (50.0, "pending task scheduling")
    assert not removed


def test_fills_the_lowest_free_slots():
    web = service("web", 5)
    created, removed = plan(web, task(web, 2), task(web, 4))
    assert [t.slot for t in created] == [1, 3, 5]
    assert not removed


def test_without_a_mode_there_is_one_replica():
    web = service("web")
    web = type(web)(id="s-web", version=1, spec=ServiceSpec(name="web"))
    assert [t.slot for t in plan(web)[0]] == [1]


def test_content_with_what_is_there_dead_or_alive():
    web = service("web", 2)
    assert plan(web, task(web, 1), task(web, 7, S.FAILED)) == ([], set())


def test_gives_up_what_does_not_run_first():
    web = service("web", 2)
    tasks = [task(web, 1, S.PREPARING, on="n1"), task(web, 2, on="n1"), task(web, 3, on="n1")]
    assert plan(web, tasks)[1] == {"t1"}


def test_then_keeps_the_spread_level_and_gives_up_high_slots():
    web = service("web", 3)
    tasks = [task(web, slot, on=on) for slot, on in enumerate(("n1", "n1", "n1", "n2", "n2"), 1)]
    assert plan(web, tasks)[1] == {"t3", "t5"}
    assert plan(service("web", 1), tasks)[1] == {"t2", "t3", "t4", "t5"}


def test_a_slot_given_up_takes_its_history_along():
    web = service("web", 1)
    past = [task(web, slot, S.FAILED, id=f"past{slot}", desired_state=S.SHUTDOWN) for slot in (1, 2)]
    gone = task(web, 3, S.RUNNING, id="gone", desired_state=S.REMOVE)
    assert plan(web, task(web, 1, on="n1"), task(web, 2, on="n1"), past, gone)[1] == {"t2", "past2"}


def test_a_slot_holds_one_wanted_task():
    web = service("web", 1)
    doubles = [task(web, 1, S.FAILED), task(web, 1, S.ASSIGNED, id="new"), task(web, 1, id="runs")]
    assert plan(web, doubles)[1] == {"t1", "new"}


def test_tasks_of_a_former_global_life_go():
    web = service("web", 1)
    assert plan(web, task(web, 1), task(web, "n1"))[1] == {"tn1"}


def test_leaves_global_services_alone():
    assert plan(service("agent", None)) == ([], set())


def test_a_huge_service_grows_by_steps():
    assert len(plan(service("web", 5000))[0]) == room.MOST_AT_ONCE
