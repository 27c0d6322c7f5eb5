# SPDX-License-Identifier: GPL-3.0-or-later
"""What users are promised, in whole clusters: how soon, how often, and what is left alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from builders import S, node, spec
from worlds import World

from covey.model.spec import Availability, RestartCondition

#: Three heartbeats of two seconds to notice, one to plan, two to start.
ELSEWHERE = 9


def cluster(*services, hosts=3):
    world = World(*(node(f"n{number}") for number in range(1, hosts + 1)))
    for each in services:
        world.declare(each)
    world.run(4)
    return world


def containers(world):
    return {host.id: dict(host.containers) for host in world.hosts.values()}


@pytest.mark.parametrize("condition", list(RestartCondition))
def test_tasks_of_a_lost_worker_soon_run_elsewhere_whatever_the_restart_policy(condition):
    world = cluster(spec("web", 6, policy={"condition": condition}))
    world.hosts["n1"].pull_plug()
    world.run(ELSEWHERE)
    assert len(world.running("web")) == 6
    assert "n1" not in {task.node_id for task in world.running("web")}


def test_a_drained_node_is_emptied_without_doubling():
    world = cluster(spec("web", 6, image="slow"))
    world.set_node("n2", availability=Availability.DRAIN)
    world.run(10)
    assert len(world.running("web")) == 6
    assert not world.hosts["n2"].containers


def test_a_replacement_runs_as_soon_as_a_host_can_start_it():
    world = cluster(spec("web", 1))
    [task] = world.running("web")
    world.hosts[task.node_id].kill(task.id)
    world.run(3)  # seen, prepared, started
    assert len(world.running("web")) == 1


@pytest.mark.parametrize("image", ["crash", "bad"])
def test_what_fails_is_tried_again_ever_more_slowly_but_never_given_up(image):
    world = cluster(spec("web", 1, image=image))
    tries = set()
    counts = []
    for _ in range(4):
        for _ in range(60):
            world.tick()
            tries |= {task.id for task in world.tasks("web") if task.status.state > S.ASSIGNED}
        counts.append(len(tries))
    assert 4 <= counts[0] <= 8
    assert 1 <= counts[-1] - counts[-2] <= 2


def test_a_declared_delay_paces_what_cannot_be_pulled():
    world = cluster(spec("web", 1, image="bad", policy={"delay": 10 * 10**9}))
    world.run(96)
    assert 5 <= len(world.tasks("web")) <= 7  # five of history, one that waits
    restarts = world.tasks("web")[-1].restarts
    assert all(later - earlier >= 10 for earlier, later in pairwise(restarts))


@pytest.mark.parametrize("moment", range(0, 12, 3))
def test_a_change_of_leader_touches_no_container(moment):
    world = cluster(spec("web", 4), spec("agent", None))
    world.run(moment)
    before = containers(world)
    for _ in range(3):
        world.change_leader()
        world.plan()
        for seconds, linked in ((3, False), (4, True)):  # it takes the workers a while to find the new one
            for host in world.hosts.values():
                host.linked = linked
            world.run(seconds)
    assert containers(world) == before


def test_a_change_of_leader_in_an_update_changes_nothing_of_its_course():
    courses = []
    for change in (False, True):
        world = cluster(spec("web", 5))
        world.declare(spec("web", 5, image="busybox:2", parallelism=2))
        for _ in range(25):
            if change:
                world.change_leader()
            world.tick()
        status = world.service("web").update_status
        assert status is not None
        courses.append((status, len(world.tasks("web")), containers(world)))
    assert courses[0] == courses[1]


def test_a_worker_cut_off_for_less_than_three_heartbeats_loses_nothing():
    world = cluster(spec("web", 6))
    before = containers(world)
    world.hosts["n1"].linked = False
    world.run(5)
    world.hosts["n1"].linked = True
    world.run(10)
    assert containers(world) == before


def test_a_node_that_was_down_for_a_day_comes_back_to_nothing():
    world = cluster(spec("web", 3))
    world.hosts["n1"].linked = False
    world.run(10)
    assert world.hosts["n1"].containers
    world.now += 86400
    for host in ("n2", "n3"):
        world.heard[host] = world.now
    world.run(2)
    world.hosts["n1"].linked = True
    world.run(3)
    assert not world.hosts["n1"].containers
    assert not world.hosts["n1"].tasks
    assert len(world.running("web")) == 3
