# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - the store's own signature
"""Sessions: registration, heartbeats, assignments, reports; who is refused and who is sent elsewhere."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import builders
import msgspec
import pytest

from covey.control.dispatcher import REGISTRATION_WINDOW, REGISTRATIONS, Dispatcher
from covey.model.changes import Batch, Change, Create, Delete, ObserveNode, Update
from covey.model.errors import Unavailable
from covey.model.objects import Cluster, NodeDescription, NodeState, NodeStatus, Task, TaskStatus
from covey.model.session import (
    Assignments,
    Describe,
    FromDispatcher,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Hello,
    ManagerAddress,
    ManagersChanged,
    Redirect,
    Refused,
    Restarting,
    RestartNoted,
    RoleWanted,
    StatusAck,
    StatusReport,
    Welcome,
)
from covey.model.spec import ClusterSpec, NodeSpec, Role
from covey.model.spec import Dispatcher as DispatcherSpec
from covey.model.tasks import TaskState
from covey.model.units import SECOND
from covey.store.memory import MemoryStore

M = TypeVar("M", bound=FromDispatcher)
replace = msgspec.structs.replace
HOST = NodeDescription(hostname="n1-host", agent_version="0.1.0")


class Worker:
    """The worker's end of an in-memory channel; ``address`` and ``ServerChannel``'s methods are the manager's end."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.address = address
        self.closed = False
        self._up: asyncio.Queue[FromWorker | None] = asyncio.Queue()
        self._down: asyncio.Queue[FromDispatcher | None] = asyncio.Queue()

    async def send(self, message: FromDispatcher) -> None:
        if self.closed:
            raise ConnectionError("closed")
        self._down.put_nowait(message)

    async def receive(self) -> FromWorker:
        message = None if self.closed else await self._up.get()
        if message is None:
            raise ConnectionError("the worker is gone")
        return message

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._down.put_nowait(None)

    def says(self, message: FromWorker | None) -> None:
        self._up.put_nowait(message)

    async def hears(self, kind: type[M]) -> M:
        """The next message, which must be of that kind."""
        async with asyncio.timeout(20):
            message = await self._down.get()
        assert isinstance(message, kind), message
        return message

    def heard(self) -> list[FromDispatcher]:
        """Whatever came meanwhile."""
        messages = []
        while not self._down.empty():
            messages.append(self._down.get_nowait())
        return [message for message in messages if message is not None]


def placed(id_: str = "t1", node_id: str = "n1", **fields) -> Task:
    status = fields.pop("status", TaskStatus(state=TaskState.ASSIGNED))
    return Task(id=id_, service_id="s1", service_name="web", slot=1, node_id=node_id, status=status, **fields)


class Recording(MemoryStore):
    """Keeps what was written; while ``stuck``, nothing is confirmed."""

    def __init__(self) -> None:
        super().__init__("manager1")
        self.batches: list[Batch] = []
        self.stuck = False

    async def propose(self, batch: Batch, timeout: float) -> int:
        self.batches.append(batch)
        if self.stuck:
            await asyncio.sleep(timeout)
            raise Unavailable("no quorum")
        return await super().propose(batch, timeout)


class World:
    """A dispatcher under way."""

    def __init__(self, store: Recording, clock) -> None:
        self.store = store
        self.dispatcher = Dispatcher(store, clock)
        self._tasks = [asyncio.create_task(self.dispatcher.run())]

    async def write(self, *changes: Change) -> None:
        await MemoryStore.propose(self.store, Batch("", 0.0, changes), 1.0)

    def connect(self, node_id: str = "n1", address: str = "192.0.2.1") -> Worker:
        worker = Worker(address)
        self._tasks.append(asyncio.create_task(self.dispatcher.serve(node_id, worker)))
        return worker

    async def session(self, node_id: str = "n1", address: str = "192.0.2.1") -> Worker:
        """A worker that was welcomed and has its first assignments."""
        worker = self.connect(node_id, address)
        worker.says(Hello(description=HOST))
        await worker.hears(Welcome)
        worker.first = await worker.hears(Assignments)
        return worker

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@pytest.fixture
async def world(clock):
    store = Recording()
    world = World(store, clock)
    spec = ClusterSpec(dispatcher=DispatcherSpec(heartbeat_period=3 * SECOND))
    manager = builders.node("manager1", role="manager", manager_address="192.0.2.9:2377")
    await world.write(Create(Cluster(id="c", spec=spec, epoch=7)), Create(manager))
    for name in ("n1", "n2"):
        await world.write(Create(builders.node(name, state="unknown")))
    yield world
    await world.stop()


async def test_hello_makes_the_node_ready_before_welcome(world, clock):
    worker = world.connect()
    worker.says(Hello(description=HOST))
    welcome = await worker.hears(Welcome)
    node = world.store.view().nodes["n1"]
    assert (node.status.state, node.status.address, node.description) == (NodeState.READY, "192.0.2.1", HOST)
    assert node.status.since == pytest.approx(clock.now(), abs=0.1)
    assert (welcome.heartbeat_period, welcome.epoch) == (3.0, 7)
    assert welcome.managers == (ManagerAddress(node_id="manager1", address="192.0.2.9:2377"),)
    assert world.dispatcher.heard()["n1"] == pytest.approx(clock.now(), abs=0.1)


async def test_without_a_quorum_there_is_no_welcome(world):
    world.store.stuck = True
    worker = world.connect()
    worker.says(Hello(description=HOST))
    await asyncio.sleep(12)
    assert worker.heard() == []
    assert len({batch.request_id for batch in world.store.batches}) == 1


async def test_coming_back_unchanged_writes_nothing(world):
    await world.session()
    written = len(world.store.batches)
    await world.session()
    assert len(world.store.batches) == written


async def test_heartbeats_are_answered_and_remembered(world, clock):
    worker = await world.session()
    await asyncio.sleep(4)
    worker.says(Heartbeat())
    await worker.hears(HeartbeatAck)
    assert world.dispatcher.heard()["n1"] == pytest.approx(clock.now(), abs=0.1)


async def test_a_silent_worker_is_cut_off_after_three_periods_and_not_before(world):
    worker = await world.session()
    await asyncio.sleep(8.9)
    assert not worker.closed
    await asyncio.sleep(0.2)
    assert worker.closed


async def test_the_end_of_a_session_changes_nothing_of_the_node(world):
    worker = await world.session()
    before = world.store.view().nodes["n1"]
    worker.says(None)
    await asyncio.sleep(1)
    assert worker.closed
    assert world.store.view().nodes["n1"] == before
    assert "n1" in world.dispatcher.heard()


@pytest.mark.parametrize(("asked", "granted"), [(12.0, 12.0), (1e6, 30.0), (-5.0, 30.0), (float("nan"), 30.0)])
async def test_a_restart_is_in_the_state_before_it_is_noted_and_ends_with_the_next_session(
    world, clock, asked, granted
):
    worker = await world.session()
    world.store.stuck = True
    worker.says(Restarting(within=asked))
    announced = clock.now()
    await asyncio.sleep(1)
    assert worker.heard() == []
    world.store.stuck = False
    await worker.hears(RestartNoted)
    status = world.store.view().nodes["n1"].status
    assert (status.state, status.back_by) == (NodeState.READY, pytest.approx(announced + granted, abs=0.1))
    worker.says(None)
    await world.session()
    status = world.store.view().nodes["n1"].status
    assert (status.state, status.back_by) == (NodeState.READY, 0.0)


async def test_the_first_assignments_are_complete_and_later_ones_differences(world):
    await world.write(Create(placed("t1")), Create(placed("other", "n2")))
    worker = await world.session()
    assert (worker.first.sequence, worker.first.complete) == (1, True)
    assert [task.id for task in worker.first.tasks] == ["t1"]
    await world.write(Create(placed("t2")))
    news = await worker.hears(Assignments)
    assert (news.sequence, news.complete, [task.id for task in news.tasks], news.removed) == (2, False, ["t2"], ())
    task = world.store.view().tasks["t1"]
    await world.write(Update(replace(task, desired_state=TaskState.SHUTDOWN)))
    news = await worker.hears(Assignments)
    assert [(task.id, task.desired_state) for task in news.tasks] == [("t1", TaskState.SHUTDOWN)]
    await world.write(Delete("task", "t2", world.store.view().tasks["t2"].version))
    news = await worker.hears(Assignments)
    assert (news.sequence, news.tasks, news.removed) == (4, (), ("t2",))


async def test_changes_in_a_burst_are_told_at_once_together(world):
    worker = await world.session()
    for number in range(10):
        await world.write(Create(placed(f"t{number}")))
    news = await worker.hears(Assignments)
    assert len(news.tasks) == 10


async def test_what_a_worker_reports_is_written_acknowledged_and_not_sent_back(world):
    await world.write(Create(placed("t1")))
    worker = await world.session()
    running = TaskStatus(state=TaskState.RUNNING, timestamp=5.0)
    worker.says(StatusReport(sequence=7, statuses={"t1": running}))
    assert (await worker.hears(StatusAck)).sequence == 7
    assert world.store.view().tasks["t1"].status == running
    await asyncio.sleep(1)
    assert worker.heard() == []


async def test_a_report_is_not_acknowledged_before_it_is_committed(world):
    await world.write(Create(placed("t1")))
    worker = await world.session()
    world.store.stuck = True
    worker.says(StatusReport(sequence=1, statuses={"t1": TaskStatus(state=TaskState.RUNNING)}))
    worker.says(Heartbeat())
    await worker.hears(HeartbeatAck)
    await asyncio.sleep(1)
    assert worker.heard() == []
    world.store.stuck = False
    await worker.hears(StatusAck)


async def test_a_worker_speaks_for_its_own_tasks_only(world):
    await world.write(Create(placed("mine")), Create(placed("theirs", "n2")))
    worker = await world.session()
    dead = TaskStatus(state=TaskState.FAILED)
    worker.says(StatusReport(sequence=1, statuses={"mine": dead, "theirs": dead, "gone": dead}))
    await worker.hears(StatusAck)
    states = {task.id: task.status.state for task in world.store.view().tasks.values()}
    assert states == {"mine": TaskState.FAILED, "theirs": TaskState.ASSIGNED}


async def test_a_repeated_report_writes_nothing_and_is_acknowledged(world):
    running = TaskStatus(state=TaskState.RUNNING)
    await world.write(Create(placed("t1", status=running)))
    worker = await world.session()
    written = len(world.store.batches)
    worker.says(StatusReport(sequence=3, statuses={"t1": running}))
    assert (await worker.hears(StatusAck)).sequence == 3
    assert len(world.store.batches) == written


async def test_a_storm_of_reports_makes_few_log_entries_and_a_lone_one_is_written_at_once(world):
    for number in range(100):
        await world.write(Create(placed(f"t{number}")))
    worker = await world.session()
    await asyncio.sleep(1)
    written, loop = len(world.store.batches), asyncio.get_running_loop()
    began = loop.time()
    worker.says(StatusReport(sequence=0, statuses={"t0": TaskStatus(state=TaskState.ACCEPTED)}))
    await worker.hears(StatusAck)
    assert loop.time() == began
    for number in range(1, 100):
        worker.says(StatusReport(sequence=number, statuses={f"t{number}": TaskStatus(state=TaskState.ACCEPTED)}))
    for _ in range(99):
        await worker.hears(StatusAck)
    assert len(world.store.batches) - written <= 3


async def test_new_facts_of_a_host_are_written(world):
    worker = await world.session()
    worker.says(Describe(description=replace(HOST, nano_cpus=8)))
    await asyncio.sleep(0.2)
    assert world.store.view().nodes["n1"].description.nano_cpus == 8


async def test_a_newer_session_of_a_node_replaces_the_older(world):
    first, second = await world.session(), await world.session()
    await asyncio.sleep(1)
    assert first.closed
    second.says(Heartbeat())
    await second.hears(HeartbeatAck)


async def test_registering_too_often_is_refused_for_a_while_but_a_sign_of_life(world, clock):
    for _ in range(REGISTRATIONS):
        await world.session()
    await asyncio.sleep(REGISTRATION_WINDOW / 2)
    one_more = world.connect()
    one_more.says(Hello(description=HOST))
    refused = await one_more.hears(Refused)
    assert not refused.final
    assert "two hosts" in refused.reason
    assert world.dispatcher.heard()["n1"] == pytest.approx(clock.now(), abs=0.1)
    await world.session("n2")
    await asyncio.sleep(8.1)
    await world.session()


async def test_an_unknown_or_removed_node_is_refused_for_good(world):
    stranger = world.connect("nobody")
    stranger.says(Hello(description=HOST))
    assert (await stranger.hears(Refused)).final
    worker = await world.session()
    await world.write(Delete("node", "n1", world.store.view().nodes["n1"].version))
    refused = await worker.hears(Refused)
    assert refused.final
    assert "removed" in refused.reason
    await asyncio.sleep(0.1)
    assert worker.closed
    assert "n1" not in world.dispatcher.heard()


@pytest.mark.parametrize(("oldest", "newest", "final"), [(0, 0, True), (2, 3, False)])
async def test_an_agent_with_no_protocol_in_common_is_refused_by_name(world, oldest, newest, final):
    worker = world.connect()
    worker.says(Hello(protocol=newest, oldest=oldest, description=HOST))
    refused = await worker.hears(Refused)
    assert refused.final is final
    assert f"(0.1.0) speaks protocols {oldest} to {newest}, this manager 1 to 1: upgrade the older" in refused.reason


async def test_an_agent_of_the_next_release_is_spoken_to_in_this_ones_protocol(world):
    worker = world.connect()
    worker.says(Hello(protocol=2, oldest=1, description=HOST))
    assert (await worker.hears(Welcome)).protocol == 1


async def test_a_session_begins_with_hello(world):
    worker = world.connect()
    worker.says(Heartbeat())
    assert "Hello" in (await worker.hears(Refused)).reason
    await asyncio.sleep(0.1)
    assert worker.closed


async def test_a_connection_without_hello_is_closed(world):
    worker = world.connect()
    await asyncio.sleep(5.1)
    assert worker.closed


async def test_a_follower_sends_workers_to_the_leader(world):
    await world.write(Create(builders.node("manager2", role="manager", manager_address="192.0.2.8:2377")))
    world.store.depose("manager2")
    worker = world.connect()
    worker.says(Hello(description=HOST))
    redirect = await worker.hears(Redirect)
    assert redirect.leader == ManagerAddress(node_id="manager2", address="192.0.2.8:2377")
    assert [manager.node_id for manager in redirect.managers] == ["manager1", "manager2"]


async def test_a_follower_that_does_not_know_a_node_names_nobody_to_it(world):
    world.store.depose("manager1")
    stranger = world.connect("removed")
    stranger.says(Hello(description=HOST))
    refused = await stranger.hears(Refused)
    assert not refused.final
    assert "ask another" in refused.reason


async def test_losing_the_leadership_sends_every_worker_away(world):
    await world.write(Create(builders.node("manager2", role="manager", manager_address="192.0.2.8:2377")))
    workers = [await world.session("n1"), await world.session("n2")]
    world.store.depose("manager2")
    await asyncio.sleep(1)
    for worker in workers:
        messages = worker.heard()
        assert isinstance(messages[-1], Redirect)
        assert messages[-1].leader.node_id == "manager2"
        assert worker.closed


async def test_closing_sends_every_worker_away_and_later_ones_too(world):
    worker = await world.session()
    await world.dispatcher.close()
    assert isinstance(await worker.hears(Redirect), Redirect)
    late = world.connect("n2")
    late.says(Hello(description=HOST))
    await late.hears(Redirect)


async def test_managers_are_told_when_they_change(world):
    worker = await world.session()
    await world.write(Create(builders.node("manager2", role="manager", manager_address="192.0.2.8:2377")))
    news = await worker.hears(ManagersChanged)
    assert [manager.address for manager in news.managers] == ["192.0.2.9:2377", "192.0.2.8:2377"]


async def test_a_role_to_take_is_told_once(world):
    worker = await world.session()
    node = world.store.view().nodes["n1"]
    await world.write(Update(replace(node, spec=NodeSpec(role=Role.MANAGER))))
    assert (await worker.hears(RoleWanted)).role is Role.MANAGER
    await world.write(Create(placed("t1")))
    await worker.hears(Assignments)
    assert worker.heard() == []


async def test_a_manager_is_not_asked_to_be_a_worker_before_its_vote_is_gone(world):
    worker = await world.session("manager1")
    node = world.store.view().nodes["manager1"]
    await world.write(Update(replace(node, spec=NodeSpec(role=Role.WORKER))))
    await asyncio.sleep(1)
    assert worker.heard() == []
    node = world.store.view().nodes["manager1"]
    await world.write(Update(replace(node, manager_address="")))
    await worker.hears(ManagersChanged)
    assert (await worker.hears(RoleWanted)).role is Role.WORKER


async def test_a_node_declared_down_during_its_session_begins_anew(world):
    worker = await world.session()
    await world.write(ObserveNode("n1", NodeStatus(state=NodeState.DOWN)))
    await asyncio.sleep(0.1)
    assert worker.closed
    await world.session()
    assert world.store.view().nodes["n1"].status.state is NodeState.READY


async def test_a_new_heartbeat_period_begins_sessions_anew(world):
    worker = await world.session()
    cluster = world.store.view().cluster
    await world.write(Update(replace(cluster, spec=ClusterSpec(dispatcher=DispatcherSpec(heartbeat_period=SECOND)))))
    await asyncio.sleep(0.1)
    assert worker.closed


async def test_observations_bear_the_fence_of_the_term(world):
    await world.session()
    assert {batch.fence for batch in world.store.batches} == {1}
