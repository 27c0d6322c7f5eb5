# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: where tasks go, and what they say while they cannot."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, replace, service, task, view

from covey.model.spec import Availability, Platform
from covey.plan.placement.schedule import schedule

PENDING = S.PENDING


def placed(*things):
    """Where each waiting task goes: id -> node, or the text that says why nowhere."""
    plan = schedule(view(*things), 1000.0, Ids())
    tasks = [change.object for change in plan.changes]
    return {t.id: t.node_id if t.status.state is S.ASSIGNED else t.status.err for t in tasks}


def waiting(of, count, **parts):
    return [task(of, slot, PENDING, **parts) for slot in range(1, count + 1)]


def test_nothing_waits():
    assert placed(node("n1"), service(), task(service(), 1, on="n1")) == {}


def test_spreads_evenly_and_by_fixed_order():
    web = service()
    assert placed(node("n2"), node("n1"), web, waiting(web, 4)) == {"t1": "n1", "t2": "n2", "t3": "n1", "t4": "n2"}


def test_a_service_spreads_for_itself_before_the_total_counts():
    web, db = service("web"), service("db")
    busy = [task(db, slot, on="n1", id=f"d{slot}") for slot in range(5)]
    first = task(web, 9, on="n2")
    assert placed(node("n1"), node("n2"), web, db, busy, first, waiting(web, 1)) == {"t1": "n1"}
    assert placed(node("n1"), node("n2"), web, db, busy, waiting(web, 1)) == {"t1": "n2"}


def test_tasks_told_to_stop_hold_their_share_but_do_not_count():
    web = service(memory=600)
    leaving = task(web, 9, on="n1", desired_state=S.SHUTDOWN)
    assert placed(node("n1"), node("n2"), web, leaving, waiting(web, 1)) == {"t1": "n2"}
    small = service(memory=100)
    leaving = [replace(leaving, id=f"x{n}", spec=small.spec.task_template) for n in range(3)]
    others = [task(small, 20, on="n2")]
    assert placed(node("n1"), node("n2"), small, leaving, others, waiting(small, 1)) == {"t1": "n1"}


def test_dead_tasks_hold_nothing():
    web = service(memory=600)
    dead = task(web, 9, S.FAILED, on="n1", desired_state=S.SHUTDOWN)
    assert placed(node("n1"), web, dead, waiting(web, 1)) == {"t1": "n1"}


def test_a_node_where_it_fails_again_and_again_comes_last():
    web = service()
    failures = [task(web, 1, S.FAILED, id=f"f{n}", on="n1", ended_at=900.0, desired_state=S.SHUTDOWN) for n in range(5)]
    nodes = node("n1"), node("n2")
    here = task(web, 7, on="n2")
    assert placed(*nodes, web, failures, here, waiting(web, 1)) == {"t1": "n2"}
    assert placed(*nodes, web, failures[:4], here, waiting(web, 1)) == {"t1": "n1"}
    long_ago = [replace(failure, ended_at=700.0) for failure in failures]
    assert placed(*nodes, web, long_ago, here, waiting(web, 1)) == {"t1": "n1"}
    under_another_spec = [replace(failure, service_version=0) for failure in failures]
    assert placed(*nodes, web, under_another_spec, here, waiting(web, 1)) == {"t1": "n1"}


def test_fills_nodes_only_as_far_as_they_reach():
    web = service(memory=400, cpus=0.5)
    where = placed(node("n1"), node("n2", memory=500), web, waiting(web, 4))
    assert where["t1"] == where["t3"] == "n1"
    assert where["t2"] == "n2"
    text = "no suitable node (insufficient resources on 2 nodes: needs 400 MiB memory, at most 224 MiB free)"
    assert where["t4"] == text


def test_host_ports_admit_one_task_a_node():
    web, other = service(ports=[80, 81]), service("other", ports=[81])
    assert placed(node("n1"), node("n2"), web, other, task(other, 5, on="n1"), waiting(web, 2)) == {
        "t1": "n2",
        "t2": "no suitable node (host-mode port already in use on 2 nodes: 80/tcp, 81/tcp)",
    }


def test_an_unset_host_port_never_collides():
    web = service(ports=[0])
    assert placed(node("n1"), web, waiting(web, 2)) == {"t1": "n1", "t2": "n1"}


@pytest.mark.parametrize(
    ("nodes", "service_", "text"),
    [
        ([], service(), "no suitable node (the cluster has no nodes)"),
        (
            [node("n1", state="down"), node("n2", availability=Availability.DRAIN),
             node("n3", availability=Availability.PAUSE), node("n4", state="down")],
            service(),
            "no suitable node (4 nodes not available for new tasks: 2 down, 1 drained, 1 paused)",
        ),
        (
            [node("n1", state="down"), node("n2", memory=200), node("n3", memory=100)],
            service(memory=512),
            "no suitable node (insufficient resources on 2 nodes: needs 512 MiB memory, at most 200 MiB free; "
            "1 node not available for new tasks: 1 down)",
        ),
        (
            [node("n1", memory=100, cpus=1)],
            service(memory=512, cpus=1.5),
            "no suitable node (insufficient resources on 1 node: needs 512 MiB memory, at most 100 MiB free; "
            "needs 1.5 CPUs, at most 1 free)",
        ),
        (
            [node("n1", cpus=1)],
            service(cpus=2),
            "no suitable node (insufficient resources on 1 node: needs 2 CPUs, at most 1 free)",
        ),
        (
            [node("n1"), node("n2", labels={"zone": "b"})],
            service(constraints=["node.role==worker", "node.labels.zone==a"]),
            "no suitable node (scheduling constraints not satisfied on 2 nodes: node.labels.zone==a)",
        ),
        (
            [node("n1")],
            service(platforms=[Platform(architecture="arm64", os="linux"), Platform(os="windows")]),
            "no suitable node (unsupported platform on 1 node: needs linux/arm64, windows/any)",
        ),
    ],
)  # fmt: skip
def test_refusals_explain_themselves(nodes, service_, text):
    assert placed(nodes, service_, waiting(service_, 1)) == {"t1": text}


def test_says_it_once():
    web = service()
    text = "no suitable node (the cluster has no nodes)"
    assert placed(web, waiting(web, 1, err=text)) == {}
    assert placed(web, waiting(web, 1, err="something else")) == {"t1": text}


def test_an_assigned_task_no_longer_says_why_it_waited():
    web = service()
    plan = schedule(view(node("n1"), web, waiting(web, 1, err="no room")), 1000.0, Ids())
    status = plan.changes[0].object.status
    assert (status.state, status.err, status.timestamp) == (S.ASSIGNED, "", 1000.0)


def test_global_tasks_pass_the_same_filters_on_their_node():
    agent = service("agent", None, memory=600)
    tasks = [task(agent, name, PENDING) for name in ("n1", "n2", "gone")]
    assert placed(node("n1"), node("n2", memory=500), agent, tasks) == {
        "tn1": "n1",
        "tn2": "no suitable node (insufficient resources on 1 node: needs 600 MiB memory, at most 500 MiB free)",
        "tgone": "no suitable node (the cluster has no nodes)",
    }


def test_what_waits_for_its_slot_is_placed_already_what_waits_for_its_time_or_is_unwanted_is_not():
    web = service()
    ready = task(web, 1, PENDING, desired_state=S.READY)
    paused = task(web, 2, PENDING, desired_state=S.READY, start_at=1000.1)
    due = task(web, 3, PENDING, start_at=1000.0, desired_state=S.READY)
    begun = task(web, 5, PENDING, start_at=1000.1)  # by the clock of an earlier leader
    unwanted = task(web, 4, PENDING, desired_state=S.SHUTDOWN)
    assert placed(node("n1"), web, ready, paused, due, unwanted, begun) == {"t1": "n1", "t3": "n1", "t5": "n1"}


def test_the_older_service_goes_first():
    old, new = service("old", memory=600), service("new", memory=600)
    tasks = [task(new, 1, PENDING, id="new", created_at=2.0), task(old, 1, PENDING, id="old", created_at=1.0)]
    assert placed(node("n1"), old, new, tasks)["old"] == "n1"
