# SPDX-License-Identifier: GPL-3.0-or-later
"""How the planners are run: until all are content, as one transaction, in whole slots if it grows too long."""

from __future__ import annotations

from itertools import count

import pytest
from builders import Ids, S, Status, after, node, replace, service, spec, task, view

from covey.model.changes import Batch, Create, Delete, ObserveNode, ObserveTask, SetUpdateStatus, Update
from covey.model.errors import Conflict
from covey.model.objects import Cluster, NodeStatus
from covey.plan import pipeline
from covey.plan.base import Plan, earliest
from covey.plan.pipeline import settle
from covey.state.codec import encode_batch
from covey.store.base import MAX_COMMAND

NOW = 1000.0


def test_a_service_is_created_placed_and_told_to_run_in_one_transaction():
    world = view(node("n1"), node("n2"), service("web", 4))
    plan = settle(world, NOW, Ids())
    assert [type(change) for change in plan.changes] == [Create] * 4
    assert {(c.object.desired_state, c.object.status.state) for c in plan.changes} == {(S.RUNNING, S.ASSIGNED)}
    assert settle(after(world, *plan.changes), NOW, Ids()) == Plan()


def test_a_plan_is_what_changed_in_the_end():
    web = service("web", 2, version=2, image="busybox:2")
    old = service("web", 2)
    world = view(
        node("n1"), web, task(old, 1, on="n1"), task(old, 2, S.PENDING), task(service("gone"), 9, S.FAILED, on="n1"),
        task(web, 1, id="orphan", on="removed", desired_state=S.SHUTDOWN),
    )  # fmt: skip
    plan = settle(world, NOW, Ids())
    kinds = {(type(c), getattr(c, "id", "") or getattr(c, "service_id", "") or c.object.id) for c in plan.changes}
    assert kinds == {
        (SetUpdateStatus, "s-web"), (Delete, "t2"), (Delete, "t9"), (ObserveTask, "orphan"), (Create, "new0001")
    }  # fmt: skip
    assert settle(after(world, *plan.changes, at=NOW), NOW, Ids()).changes == ()


def test_a_restart_is_one_update_and_one_create():
    web = service("web", 1)
    plan = settle(view(node("n1"), web, task(web, 1, S.FAILED, on="n1")), NOW, Ids())
    stopped, started = plan.changes
    assert (stopped.object.desired_state, stopped.object.version) == (S.SHUTDOWN, 1)
    assert started.object.desired_state is S.RUNNING
    assert started.object.node_id == "n1"


def test_the_wake_up_is_the_earliest_of_those_who_wait():
    web = service("web", 2)
    waiting = [task(web, n, S.READY, on="n1", desired_state=S.READY, start_at=NOW + n) for n in (1, 2)]
    assert settle(view(node("n1"), web, waiting), NOW, Ids()) == Plan(wake_at=NOW + 1)
    down = node("n2", state="down", since=NOW)
    lost = task(web, 3, on="n2", desired_state=S.SHUTDOWN)
    assert settle(view(node("n1"), down, web, waiting[1:], task(web, 1, on="n1"), lost), NOW, Ids()).wake_at == NOW + 2


def test_a_long_plan_is_cut_between_slots_and_goes_on_at_once():
    web = service("web", 6)
    world = view(node("n1"), web, [task(web, slot, S.FAILED, on="n1") for slot in range(1, 7)])
    plan = settle(world, NOW, Ids(), limit=3)
    assert plan.wake_at == NOW
    slots = [change.object.slot for change in plan.changes]
    assert sorted(slots) == [1, 1, 2, 2]
    ids, rounds = Ids("x"), count()
    while (plan := settle(world, NOW, ids, limit=4)).changes and next(rounds) < 20:
        world = after(world, *plan.changes, at=NOW)
    running = [t.slot for t in world.tasks.values() if t.desired_state is S.RUNNING]
    assert sorted(running) == [1, 2, 3, 4, 5, 6]


def test_large_specs_make_small_transactions():
    web = service("web", 50, labels={"story": "x" * 100_000})
    world, ids, sizes = view(node("n1"), web), Ids(), []
    while (plan := settle(world, NOW, ids)).changes:
        world = after(world, *plan.changes, at=NOW)
        sizes.append(len(encode_batch(Batch("", NOW, plan.changes))))
        assert (plan.wake_at == NOW) is (len(world.tasks) < 50)
    assert len(sizes) == 5
    assert max(sizes) < pipeline.SIZE + 1000 < MAX_COMMAND


def test_a_slot_too_large_for_one_transaction_takes_two():
    web = service("web", 1, labels={"story": "x" * 800_000})
    world, ids, sizes = view(node("n1"), web, task(web, 1, S.FAILED, on="n1")), Ids(), []
    while (plan := settle(world, NOW, ids)).changes:
        world = after(world, *plan.changes, at=NOW)
        sizes.append(len(encode_batch(Batch("", NOW, plan.changes))))
        assert len(sizes) < 9
    assert max(sizes) < MAX_COMMAND
    assert [t.desired_state for t in world.tasks.values() if t.desired_state is S.RUNNING] == [S.RUNNING]


def test_an_update_is_known_before_its_tasks():
    web = service("web", 2, version=2, image="busybox:2", parallelism=0)
    old = service("web", 2)
    world = view(node("n1"), web, task(old, 1, S.FAILED, on="n1"), task(old, 2, on="n1"))
    plan = settle(world, NOW, Ids(), limit=3)
    assert isinstance(plan.changes[0], SetUpdateStatus)
    assert {change.object.slot for change in plan.changes[1:]} == {1}
    assert plan.wake_at == NOW


def test_observations_of_nodes_and_services_fold_too():
    old = view(node("n1"), service("web", 0))
    new = after(old, ObserveNode("n1", NodeStatus(message="x")), SetUpdateStatus("s-web", 1, None))
    assert pipeline.difference(old, new, [("node", "n1"), ("service", "s-web")]) == [
        [ObserveNode("n1", new.nodes["n1"].status, new.nodes["n1"].description)],
        [SetUpdateStatus("s-web", 1, None)],
    ]
    cluster = view(Cluster(id="c"))
    assert pipeline.difference(cluster, cluster, [("cluster", "c")]) == []
    gone = after(new, Delete("node", "n1", 1))
    assert pipeline.difference(old, gone, [("node", "n1"), ("task", "never")]) == [[Delete("node", "n1", 1)]]


def test_an_observation_made_meanwhile_survives_the_plan():
    web = service("web", 0)
    world = view(node("n1"), web, task(web, 1, on="n1"))
    plan = settle(world, NOW, Ids())
    world = after(world, ObserveTask("t1", Status(state=S.FAILED, err="boom")))
    world = after(world, *plan.changes)
    assert world.tasks["t1"].status.err == "boom"
    assert world.tasks["t1"].desired_state is S.REMOVE


def test_a_stale_plan_is_refused_whole():
    world = view(node("n1"), service("web", 1))
    plan = settle(after(world, Update(replace(world.services["s-web"], spec=spec("web", 2)))), NOW, Ids())
    assert len(plan.changes) == 2
    busy = after(after(world, *plan.changes), Update(world.nodes["n1"]))
    with pytest.raises(AssertionError, match="already exists"):
        after(busy, *plan.changes)


def test_a_planner_that_contradicts_the_state_is_an_error_at_once():
    with pytest.raises(Conflict, match="already exists"):
        settle(view(node("n1"), service("web", 2)), NOW, lambda: "always the same")


@pytest.mark.parametrize(
    ("first", "second", "sooner"), [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0)]
)
def test_earliest(first, second, sooner):
    assert earliest(first, second) == sooner
