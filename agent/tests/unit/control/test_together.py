# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop, planners and dispatcher together: declared services come to run on workers that only obey, and heal."""

from __future__ import annotations

import asyncio
from collections import Counter

import builders
import pytest

from covey.control.dispatcher import Dispatcher
from covey.control.loop import ControlLoop
from covey.model.changes import Batch, Change, Create, Update
from covey.model.objects import Cluster, NodeDescription, NodeState, Service, Task, TaskStatus
from covey.model.session import Assignments, Heartbeat, Hello, Restarting, StatusReport, Welcome
from covey.model.spec import Replicated, ServiceMode, ServiceSpec
from covey.model.tasks import TaskState, is_wanted
from covey.plan.pipeline import settle

replace = builders.replace
DESCRIPTION = NodeDescription(
    hostname="h", nano_cpus=8 * 10**9, memory_bytes=1 << 33, os="linux", architecture="x86_64"
)


class Obedient:
    """A worker that runs whatever it is told to, at once; also its channel."""

    address = "192.0.2.1"

    def __init__(self, node_id: str, dispatcher: Dispatcher) -> None:
        self.node_id = node_id
        self.running: dict[str, Task] = {}
        self._up: asyncio.Queue = asyncio.Queue()
        self._up.put_nowait(Hello(description=DESCRIPTION))
        self._sequence = 0
        self._tasks = [
            asyncio.create_task(dispatcher.serve(node_id, self)),
            asyncio.create_task(self._beat()),
        ]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(2)
            self._up.put_nowait(Heartbeat())

    async def send(self, message) -> None:
        if isinstance(message, Welcome):
            self.session = message.session_id
        if isinstance(message, Assignments):
            if message.complete:
                self.running.clear()
            self._report({task.id: self._obey(task) for task in message.tasks})
            for gone in message.removed:
                self.running.pop(gone, None)

    def _obey(self, task: Task) -> TaskStatus:
        if not is_wanted(task.desired_state):
            self.running.pop(task.id, None)
            return TaskStatus(state=TaskState.SHUTDOWN)
        if task.desired_state is TaskState.READY:
            return TaskStatus(state=TaskState.READY)
        self.running[task.id] = task
        return TaskStatus(state=TaskState.RUNNING)

    def crash(self, task_id: str) -> None:
        del self.running[task_id]
        self._report({task_id: TaskStatus(state=TaskState.FAILED, err="task: non-zero exit (137)")})

    def announce_restart(self) -> None:
        self._up.put_nowait(Restarting(within=30.0))

    def _report(self, statuses: dict[str, TaskStatus]) -> None:
        self._sequence += 1
        self._up.put_nowait(StatusReport(sequence=self._sequence, statuses=statuses))

    async def receive(self):
        return await self._up.get()

    async def close(self) -> None:
        pass

    async def stop(self) -> None:
        """As if the plug were pulled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class World:
    def __init__(self, store, clock) -> None:
        self.store, self.clock = store, clock
        self.dispatcher = Dispatcher(store, clock)
        loop = ControlLoop(store, settle, self.dispatcher.heard, clock)
        self._tasks = [
            asyncio.create_task(self.dispatcher.run()),
            asyncio.create_task(loop.run(store.leadership().term)),
        ]
        self.workers: dict[str, Obedient] = {}

    async def write(self, *changes: Change) -> None:
        await self.store.propose(Batch("", self.clock.now(), changes), 1)

    def plug_in(self, node_id: str) -> None:
        self.workers[node_id] = Obedient(node_id, self.dispatcher)

    def spread(self) -> Counter:
        return Counter({node_id: len(worker.running) for node_id, worker in self.workers.items()})

    async def stop(self) -> None:
        for worker in self.workers.values():
            await worker.stop()
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@pytest.fixture
async def world(store, clock):
    world = World(store, clock)
    nodes = (Create(builders.node(name, state="unknown")) for name in ("n1", "n2", "n3"))
    await world.write(Create(Cluster(id="c")), *nodes)
    for name in ("n1", "n2", "n3"):
        world.plug_in(name)
    await asyncio.sleep(0.5)
    mode = ServiceMode(replicated=Replicated(replicas=6))
    await world.write(
        Create(Service(id="s1", spec=ServiceSpec(name="web", task_template=builders.template(), mode=mode)))
    )
    await asyncio.sleep(1)
    yield world
    await world.stop()


async def test_replicas_are_spread_and_run_within_a_second(world):
    assert world.spread() == {"n1": 2, "n2": 2, "n3": 2}


async def test_a_crash_is_mended_within_a_second(world):
    (task_id, *_) = world.workers["n1"].running
    world.workers["n1"].crash(task_id)
    await asyncio.sleep(1)
    assert world.spread().total() == 6
    assert all(task_id not in worker.running for worker in world.workers.values())


async def test_scaling_down_stops_the_surplus(world):
    service = world.store.view().services["s1"]
    mode = ServiceMode(replicated=Replicated(replicas=3))
    await world.write(Update(replace(service, spec=replace(service.spec, mode=mode))))
    await asyncio.sleep(1)
    assert world.spread() == {"n1": 1, "n2": 1, "n3": 1}


async def test_tasks_of_a_lost_worker_run_elsewhere_within_ten_seconds_and_not_twice_when_it_returns(world):
    lost = world.workers.pop("n1")
    await lost.stop()
    await asyncio.sleep(5)
    assert world.spread() == {"n2": 2, "n3": 2}, "three heartbeats may be missed"
    await asyncio.sleep(3)
    assert world.store.view().nodes["n1"].status.state is NodeState.DOWN
    assert world.spread() == {"n2": 3, "n3": 3}
    world.plug_in("n1")
    await asyncio.sleep(1)
    assert world.store.view().nodes["n1"].status.state is NodeState.READY
    assert world.spread().total() == 6


async def test_a_short_absence_moves_nothing(world):
    before = {node_id: set(worker.running) for node_id, worker in world.workers.items()}
    await world.workers["n1"].stop()
    await asyncio.sleep(4)
    world.plug_in("n1")
    await asyncio.sleep(5)
    assert {node_id: set(worker.running) for node_id, worker in world.workers.items()} == before


async def test_an_announced_restart_may_take_longer_and_moves_nothing(world):
    before = {node_id: set(worker.running) for node_id, worker in world.workers.items()}
    world.workers["n1"].announce_restart()
    await asyncio.sleep(0.1)
    await world.workers["n1"].stop()
    await asyncio.sleep(25)
    world.plug_in("n1")
    await asyncio.sleep(5)
    assert {node_id: set(worker.running) for node_id, worker in world.workers.items()} == before


async def test_one_that_never_comes_back_from_it_is_lost_after_half_a_minute(world):
    world.workers["n1"].announce_restart()
    await asyncio.sleep(0.1)
    lost = world.workers.pop("n1")
    await lost.stop()
    await asyncio.sleep(29)
    assert world.spread() == {"n2": 2, "n3": 2}
    await asyncio.sleep(4)
    assert world.store.view().nodes["n1"].status.state is NodeState.DOWN
    assert world.spread() == {"n2": 3, "n3": 3}
