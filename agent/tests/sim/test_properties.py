# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of all planners together, of every state one can think of: what never happens, and what always does."""

from __future__ import annotations

import laws
from builders import Ids, S, after, node, service, spec, task, view
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import World

from covey.model.changes import Create
from covey.model.objects import UpdateState, UpdateStatus
from covey.model.spec import Availability
from covey.model.tasks import is_wanted
from covey.plan.pipeline import PLANNERS, settle
from covey.plan.placement.board import host_ports
from covey.plan.placement.constraint import broken
from covey.plan.slots import is_over, is_placed

NOW = 1000.0
NODES = ("n1", "n2", "n3")
SETTINGS = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def nodes(draw):
    return [
        node(
            name,
            state=draw(st.sampled_from(("ready", "ready", "ready", "down", "unknown"))),
            availability=draw(st.sampled_from((Availability.ACTIVE, *Availability))),
            labels={"zone": draw(st.sampled_from("ab"))},
            since=draw(st.sampled_from((0.0, NOW - 86400, NOW - 5))),
        )
        for name in NODES
    ]


@st.composite
def services(draw, name):
    return service(
        name,
        draw(st.sampled_from((None, 0, 1, 2, 4))),
        version=draw(st.integers(1, 3)),
        image=draw(st.sampled_from(("busybox:1", "busybox:2"))),
        memory=draw(st.sampled_from((0, 200))),
        ports=draw(st.sampled_from(((), (80,)))),
        constraints=draw(st.sampled_from((None, ["node.labels.zone==a"]))),
        parallelism=draw(st.sampled_from((None, 0, 2))),
        policy=draw(st.sampled_from((None, {"delay": 0}, {"max_attempts": 1}, {"delay": 9 * 10**9}))),
        update_status=draw(
            st.sampled_from((None, *(UpdateStatus(state=state, started_at=NOW - 9) for state in UpdateState)))
        ),
    )


@st.composite
def tasks(draw, of, number):
    """Any task at all, likely or not."""
    made_from = draw(st.sampled_from((of, service(of.spec.name, version=9, image="busybox:0"))))
    on = draw(st.sampled_from((*NODES, "gone")))
    slot = draw(st.sampled_from((on, 1, 2, 3, 7)))
    state = draw(st.sampled_from(sorted(set(S) - {S.REMOVE})))
    started = draw(st.sampled_from((0.0, NOW - 8, NOW - 1)))
    return task(
        made_from, slot, state,
        id=f"{of.spec.name}{number}",
        on=on if state >= S.ASSIGNED or isinstance(slot, str) else "",
        desired_state=draw(st.sampled_from((S.RUNNING, S.RUNNING, S.READY, S.COMPLETE, S.SHUTDOWN, S.REMOVE))),
        created_at=NOW - draw(st.integers(0, 99)),
        start_at=draw(st.sampled_from((0.0, NOW + 3))),
        restarts=draw(st.sampled_from(((), (NOW - 5,), (NOW - 9, NOW - 5)))),
        running_at=started if state >= S.RUNNING else 0.0,
        ended_at=started + 1 if state > S.RUNNING else 0.0,
    )  # fmt: skip


@st.composite
def states(draw):
    """A view that holds anything, right or wrong; tasks of a service that is gone included."""
    found = [draw(services(name)) for name in ("web", "db")]
    owners = [*found, service("gone")]
    everything = [draw(tasks(owner, number)) for owner in owners for number in range(draw(st.integers(0, 4)))]
    return view(draw(nodes()), found, everything)


def settled(before, limit=5000):
    """The view once no plan wants a change, planned again after each cut."""
    ids = Ids()
    for _ in range(200):
        plan = settle(before, NOW, ids, limit)
        if not plan.changes:
            return before
        before = after(before, *plan.changes, at=NOW)
    raise AssertionError("the planners never settle")


def wishes(found):
    """What is wanted in a view, whatever the ids."""
    return {
        (each.service_id, each.slot, each.slot == 0 and each.node_id, each.spec.container_spec.image)
        for each in found.tasks.values()
        if is_wanted(each.desired_state)
    }


# Safety: never, in no state.


@SETTINGS
@given(states())
def test_a_plan_holds_and_the_view_after_it_is_settled_and_lawful(before):
    plan = settle(before, NOW, Ids())
    found = after(before, *plan.changes, at=NOW)
    assert settle(found, NOW, Ids("again")).changes == ()
    laws.one_wanted_task_a_slot(found)
    laws.wanted_slots_match_replicas(found)
    laws.nobody_answers_for_no_task(found)
    laws.nothing_runs_before_its_time(before, found, NOW)


@SETTINGS
@given(states())
def test_no_plan_places_a_task_against_a_filter(before):
    plan = settle(before, NOW, Ids())
    found = after(before, *plan.changes, at=NOW)
    for each in found.tasks.values():
        old = before.tasks.get(each.id)
        if each.status.state is not S.ASSIGNED or (old is not None and old.status.state >= S.ASSIGNED):
            continue
        assert found.nodes[each.node_id].schedulable
        assert not broken(each.spec.placement, found.nodes[each.node_id])
        others = [other for other in found.tasks_on(each.node_id) if is_placed(other) and not is_over(other)]
        taken = [port for other in others if other.id != each.id for port in host_ports(other.ports)]
        assert not set(taken) & set(host_ports(each.ports))


@SETTINGS
@given(states())
def test_nothing_told_to_go_is_wanted_again(before):
    found = settled(before)
    for task_id, old in before.tasks.items():
        new = found.tasks.get(task_id)
        assert new is None or new.desired_state >= old.desired_state
        assert new is None or new.status.state >= old.status.state


# Liveness: always, in the end.


@SETTINGS
@given(states(), st.integers(1, 6))
def test_a_plan_cut_anywhere_and_planned_again_wants_the_same_in_the_end(before, limit):
    assert wishes(settled(before, limit)) == wishes(settled(before))


@SETTINGS
@given(states(), st.permutations(PLANNERS))
def test_the_order_of_planners_does_not_matter_in_the_end(before, order):
    """One planner at a time, each as if it were alone; who wants something last changes nothing."""
    ids, found, idle = Ids("o"), before, 0
    for number in range(400):
        plan = order[number % len(order)](found, NOW, ids)
        idle = 0 if plan.changes else idle + 1
        if idle == len(order):
            break
        found = after(found, *plan.changes, at=NOW)
    assert idle == len(order)
    slots = {wish[:3] for wish in wishes(found)}
    assert slots == {wish[:3] for wish in wishes(settled(before))}


@SETTINGS
@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.integers(1, 5), st.booleans())
def test_with_room_everything_declared_runs_and_is_spread_evenly(replicas, hosts, rolled):
    world = World(*(node(f"n{number}") for number in range(hosts)))
    names = [f"s{number}" for number in range(len(replicas))]
    for name, count in zip(names, replicas, strict=True):
        world.declare(spec(name, count, parallelism=2, memory=20))
    world.run(4)
    if rolled:
        for name, count in zip(names, replicas, strict=True):
            world.declare(spec(name, count, parallelism=2, memory=20, image="busybox:2"))
        world.run(40)
    for name, count in zip(names, replicas, strict=True):
        running = world.running(name)
        assert len(running) == count
        counts = [sum(1 for each in running if each.node_id == host) for host in world.hosts]
        assert max(counts) - min(counts) <= 1


@SETTINGS
@given(st.integers(1, 6), st.integers(1, 6))
def test_host_ports_give_each_node_one_and_the_rest_say_why(hosts, replicas):
    world = World(*(node(f"n{number}") for number in range(hosts)))
    world.declare(spec("web", replicas, ports=[80]))
    world.run(4)
    assert len(world.running("web")) == min(hosts, replicas)
    waiting = [each for each in world.tasks("web") if each.status.state is S.PENDING]
    assert len(waiting) == max(0, replicas - hosts)
    assert all("host-mode port already in use" in each.status.err for each in waiting)


@SETTINGS
@given(states())
def test_what_is_settled_needs_a_reason_to_wake(before):
    """A settled state with something left to wait for names a time that is still to come."""
    found = settled(before)
    plan = settle(found, NOW, Ids("again"))
    assert plan.wake_at is None or plan.wake_at > NOW
    later = [each.start_at for each in found.tasks.values() if each.desired_state is S.READY and each.start_at > NOW]
    assert not later or (plan.wake_at is not None and plan.wake_at <= min(later) + 70)
    assert not any(isinstance(change, Create) for change in plan.changes)
