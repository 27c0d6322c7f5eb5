# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole clusters under seeded bad luck: the laws hold at every step, and once the bad luck ends all is as declared."""

from __future__ import annotations

import random  # noqa: TID251 - seeded below: the same seed is the same story

import pytest
from builders import node, spec
from worlds import World

from covey.model.objects import UpdateState
from covey.model.spec import Availability, ClusterSpec, RestartCondition
from covey.model.tasks import TaskState
from covey.plan.pipeline import LIMIT
from covey.plan.slots import slot_key

NODES = ("n1", "n2", "n3", "n4")
NAMES = ("web", "db", "agent")
SEEDS = range(40)
ON_FAILURE = RestartCondition.ON_FAILURE


class Fate:
    """One act a second, drawn from all that users and failures can do."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        nodes = (node(name, labels={"zone": "abab"[number]}) for number, name in enumerate(NODES))
        self.world = World(*nodes, limit=self.dice.choice((LIMIT, LIMIT, 12, 1)))

    def act(self) -> None:
        acts = (self.declare, self.kill, self.unplug, self.cut, self.come_back, self.set_node, self.relabel, self.lead)
        self.dice.choices(acts, weights=(4, 6, 1, 1, 4, 2, 1, 1))[0]()

    def declare(self) -> None:
        dice = self.dice
        name = dice.choice(NAMES)
        if self.world.view.service_named(name) and dice.random() < 0.2:
            self.world.remove(name)
            return
        constraints = dice.choice((None, None, ["node.labels.zone==a"], ["node.labels.zone!=a"]))
        self.world.declare(
            spec(
                name,
                None if name == "agent" else dice.randint(0, 7),
                image=dice.choice(("busybox:1", "busybox:2", "slow", "slow", "crash", "bad", "once")),
                constraints=constraints,
                memory=dice.choice((0, 0, 100, 300)),
                ports=dice.choice(((), (), (80 + NAMES.index(name),))),
                parallelism=dice.choice((None, 0, 1, 2)),
                policy=dice.choice(
                    (None, None, {"delay": 3 * 10**9}, {"max_attempts": 2}, {"condition": "on-failure"})
                ),
            )
        )

    def kill(self) -> None:
        host = self.world.hosts[self.dice.choice(NODES)]
        if host.containers:
            host.kill(self.dice.choice(sorted(host.containers)))

    def unplug(self) -> None:
        self.world.hosts[self.dice.choice(NODES)].pull_plug()

    def cut(self) -> None:
        self.world.hosts[self.dice.choice(NODES)].linked = False

    def come_back(self) -> None:
        host = self.world.hosts[self.dice.choice(NODES)]
        host.powered = host.linked = True

    def set_node(self) -> None:
        self.world.set_node(self.dice.choice(NODES), availability=self.dice.choice(list(Availability)))

    def relabel(self) -> None:
        self.world.set_node(self.dice.choice(NODES), labels={"zone": self.dice.choice("ab")})

    def lead(self) -> None:
        self.world.change_leader()

    def relent(self) -> None:
        """Everything works again, and what is declared can run."""
        self.world.limit = LIMIT
        for host in self.world.hosts.values():
            host.powered = host.linked = True
        for name in NODES:
            self.world.set_node(name, availability=Availability.ACTIVE, labels={"zone": "a"})
        for name in NAMES:
            if self.world.view.service_named(name):
                self.world.declare(spec(name, None if name == "agent" else 5, image="busybox:9", parallelism=2))


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_bad_luck_all_is_as_declared(seed):
    fate = Fate(seed)
    world = fate.world
    for _ in range(60):
        fate.act()
        world.tick()
    fate.relent()
    world.run(150)
    for service in world.view.services.values():
        expected = len(NODES) if service.is_global else 5
        running = world.running(service.spec.name)
        assert len(running) == expected, [
            (t.name, t.desired_state.name, t.status) for t in world.tasks(service.spec.name)
        ]
        assert {task.spec.container_spec.image for task in running} == {"busybox:9"}
        assert service.update_status is None or service.update_status.state is UpdateState.COMPLETED
        tasks = world.tasks(service.spec.name)
        assert {slot_key(task) for task in tasks} == {slot_key(task) for task in running}, "history without a slot"
        assert len(tasks) <= len(running) * (1 + ClusterSpec.DEFAULT_HISTORY)
    containers = {task_id for host in world.hosts.values() for task_id in host.containers}
    assert containers == {task.id for task in world.view.tasks.values() if task.status.state is TaskState.RUNNING}
    assert all(task.service_id in world.view.services for task in world.view.tasks.values())
