# SPDX-License-Identifier: GPL-3.0-or-later
"""What the beginning of a new epoch writes."""

from builders import after, node, replace, service, task, view

from covey.control.cluster import Founder
from covey.control.recovery import recovered, restored
from covey.control.roster import epoch_of, managers_of
from covey.model.objects import Cluster
from covey.model.session import ManagerAddress
from covey.model.spec import NodeSpec, Role
from covey.plan.liveness import RESTART_GRACE, liveness


def manager(id_, **parts):
    spec = NodeSpec(role=Role.MANAGER, labels={"disk": "ssd"})
    return replace(node(id_, role="manager", manager_address=f"{id_}:2377", **parts), spec=spec)


WEB = service("web")
BEFORE = view(Cluster(id="c1"), manager("m1"), manager("m2"), node("w1"), WEB, task(WEB, 1, on="w1"))


def test_the_survivor_is_the_only_manager():
    now = after(BEFORE, *recovered(BEFORE, "m2", "10.0.0.2:2377", 7, 1000.0))
    assert managers_of(now) == (ManagerAddress(node_id="m2", address="10.0.0.2:2377"),)
    assert {id_: node.spec.role for id_, node in now.nodes.items()} == {
        "m1": Role.WORKER, "m2": Role.MANAGER, "w1": Role.WORKER,
    }  # fmt: skip
    assert epoch_of(now) == 7


def test_the_others_keep_the_rest_of_what_they_are():
    now = after(BEFORE, *recovered(BEFORE, "m2", "10.0.0.2:2377", 7, 1000.0))
    assert now.nodes["m1"].role is Role.WORKER, "what is a manager's is closed to it at once"
    assert now.nodes["m1"].spec.labels == {"disk": "ssd"}
    assert (now.nodes["w1"].spec, now.nodes["w1"].role) == (BEFORE.nodes["w1"].spec, BEFORE.nodes["w1"].role)
    assert (now.services, now.tasks) == (BEFORE.services, BEFORE.tasks)


def test_nobody_is_known_to_live_and_everybody_has_as_long_to_come_back_as_after_a_restart():
    gone = view(Cluster(id="c1"), manager("m2"), node("w1"), node("w2", state="down"))
    now = after(gone, *recovered(gone, "m2", "m2:2377", 7, 1000.0))
    assert {id_: node.status.state.value for id_, node in now.nodes.items()} == {
        "m2": "unknown", "w1": "unknown", "w2": "down",
    }  # fmt: skip
    silent = liveness(now, {"m2": 1029.0}, 2.0, 1000.0, 1029.0)
    assert (silent.changes, silent.wake_at) == ((), 1000.0 + RESTART_GRACE)
    assert [change.id for change in liveness(now, {"m2": 1029.0}, 2.0, 1000.0, 1030.0).changes] == ["w1"]
    assert now.nodes["w2"].status == gone.nodes["w2"].status


def test_where_the_manager_has_moved_there_is_time_to_tell_everybody():
    founder = Founder("fresh", "host9", "10.0.0.9:2377")
    for changes in (recovered(BEFORE, "m2", "x:2377", 7, 1000.0), restored(BEFORE, founder, 7, 1000.0)):
        now = after(BEFORE, *changes)
        heard = {id_: 1299.0 for id_ in ("m1", "m2", "fresh")}
        assert liveness(now, heard, 2.0, 1000.0, 1299.0).changes == ()
        heard = dict.fromkeys(heard, 1300.0)
        assert [change.id for change in liveness(now, heard, 2.0, 1000.0, 1300.0).changes] == ["w1"]


def test_a_survivor_that_was_about_to_become_a_worker_stays_a_manager():
    demoted = replace(BEFORE.nodes["m2"], spec=NodeSpec(role=Role.WORKER))
    half_way = view(Cluster(id="c1"), manager("m1"), demoted)
    assert after(half_way, *recovered(half_way, "m2", "x:2377", 7, 1000.0)).nodes["m2"].spec.role is Role.MANAGER


def test_restored_elsewhere_every_manager_of_before_is_none():
    now = after(BEFORE, *restored(BEFORE, Founder("fresh", "host9", "10.0.0.9:2377"), 7, 1000.0))
    assert managers_of(now) == (ManagerAddress(node_id="fresh", address="10.0.0.9:2377"),)
    assert (now.nodes["fresh"].role, now.nodes["fresh"].description.hostname) == (Role.MANAGER, "host9")
    assert [id_ for id_, node in now.nodes.items() if node.spec.role is Role.MANAGER] == ["fresh"]
    assert epoch_of(now) == 7
