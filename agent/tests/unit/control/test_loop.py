# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - the store's own signature
"""The leader's loop: fencing, planning again, waiting for changes and for time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import builders
import pytest
from builders import replace

from covey.control import loop as control_loop
from covey.control.loop import ControlLoop
from covey.model.changes import Batch, Change, Create, Update
from covey.model.errors import OutOfSequence, Unavailable
from covey.model.objects import Cluster, NodeState, Service
from covey.model.spec import ClusterSpec, Dispatcher, ServiceSpec
from covey.plan.base import Plan
from covey.store.memory import MemoryStore


@dataclass
class Planner:
    """Answers with the plans it was given, in turn, then with nothing to do."""

    plans: list[Plan] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __call__(self, view, now, new_id) -> Plan:
        self.times.append(now)
        return self.plans.pop(0) if self.plans else Plan()


class Recording(MemoryStore):
    """Keeps the batches it was asked for, and fails as told."""

    def __init__(self) -> None:
        super().__init__("manager1")
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []

    async def propose(self, batch: Batch, timeout: float) -> int:
        self.batches.append(batch)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, LateSuccess):
                await super().propose(batch, timeout)
            raise failure
        return await super().propose(batch, timeout)


class LateSuccess(Unavailable):
    """The batch took effect, but its proposer does not learn of it."""


def web(name: str = "web") -> Create:
    return Create(Service(id=f"{name}-id", spec=ServiceSpec(name=name)))


async def write(store: MemoryStore, *changes: Change, request: str = "") -> None:
    await store.propose(Batch(request, 0.0, changes), 1.0)


class Leader:
    """A loop under way."""

    def __init__(self, store, planner, clock, heard=None) -> None:
        self.heard = heard or {}
        loop = ControlLoop(store, planner, lambda: self.heard, clock)
        self.task = asyncio.create_task(loop.run(store.leadership().term))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def lead(clock):
    leaders = []

    def begin(store, planner, heard=None) -> Leader:
        leaders.append(Leader(store, planner, clock, heard))
        return leaders[-1]

    yield begin
    for leader in leaders:
        await leader.stop()


async def test_begins_with_an_empty_batch_of_its_term(lead):
    store = Recording()
    lead(store, Planner())
    await asyncio.sleep(1)
    assert [(batch.changes, batch.fence) for batch in store.batches] == [((), 1)]
    assert store.view().fence == 1


async def test_proposes_what_is_planned_under_the_fence_and_an_own_request_id(lead):
    store = Recording()
    lead(store, Planner([Plan((web(),))]))
    await asyncio.sleep(1)
    assert "web" in store.view().service_names
    assert [batch.fence for batch in store.batches] == [1, 1]
    assert len({batch.request_id for batch in store.batches}) == 2


async def test_a_change_wakes_it(lead, store):
    planner = Planner()
    lead(store, planner)
    await asyncio.sleep(1)
    before = len(planner.times)
    await write(store, web())
    await asyncio.sleep(0.1)
    assert len(planner.times) == before + 1


async def test_a_burst_is_planned_once(lead, store):
    planner = Planner()
    lead(store, planner)
    await asyncio.sleep(1)
    before = len(planner.times)
    for number in range(20):
        await write(store, web(f"web{number}"))
    await asyncio.sleep(0.1)
    assert len(planner.times) == before + 1


async def test_wakes_at_the_time_named_and_not_before(lead, store, clock):
    planner = Planner([Plan(wake_at=clock.now() + 7.5)])
    lead(store, planner)
    await asyncio.sleep(7.4)
    assert len(planner.times) == 1
    await asyncio.sleep(0.2)
    assert planner.times[1] == pytest.approx(planner.times[0] + 7.5)


async def test_a_change_does_not_lose_the_time_named(lead, store, clock):
    at = clock.now() + 7.5
    planner = Planner([Plan(wake_at=at), Plan(wake_at=at)])
    lead(store, planner)
    await asyncio.sleep(3)
    await write(store, web())
    await asyncio.sleep(10)
    assert [round(time - planner.times[0], 1) for time in planner.times] == [0.0, 3.0, 7.5]


async def test_a_change_while_it_plans_is_not_lost(lead, store):
    seen = []

    def planner(view, now, new_id) -> Plan:
        seen.append(view.index)
        if len(seen) == 1:
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(write(store, web())))
        return Plan()

    lead(store, planner)
    await asyncio.sleep(1)
    assert seen[-1] == store.view().index


async def test_plans_again_when_overtaken(lead):
    store = Recording()
    await write(store, web())
    stale = Update(store.view().services["web-id"])
    await write(store, stale)
    planner = Planner([Plan((stale,)), Plan((web("after"),))])
    lead(store, planner)
    await asyncio.sleep(1)
    assert "after" in store.view().service_names


async def test_plans_refused_again_and_again_are_slowed_down(lead):
    store = Recording()
    stale = OutOfSequence("service", "web", 1, 2)

    async def refuse(batch, timeout):
        if batch.changes:
            raise stale
        return 1

    store.propose = refuse
    planner = Planner([Plan((web(),))] * 1000)
    lead(store, planner)
    await asyncio.sleep(10)
    assert len(planner.times) < 15


async def test_a_batch_of_unknown_fate_is_repeated_under_its_own_id(lead):
    store = Recording()
    lead(store, Planner([Plan((web(),))]))
    store.failures = [Unavailable("no quorum"), Unavailable("no quorum"), LateSuccess("lost answer")]
    await asyncio.sleep(2)
    repeated = [batch.request_id for batch in store.batches if batch.changes]
    assert "web" in store.view().service_names
    assert len(set(repeated)) == 1


async def test_ends_when_the_leadership_is_gone(lead, store):
    leader = lead(store, Planner())
    await asyncio.sleep(1)
    store.depose("manager2")
    await asyncio.sleep(0.1)
    assert leader.task.done()
    assert leader.task.result() is None


async def test_ends_when_it_leads_in_another_term(lead, store):
    planner = Planner()
    leader = lead(store, planner)
    await asyncio.sleep(1)
    store.depose("manager2")
    store.elect()
    await asyncio.sleep(0.1)
    assert leader.task.done()


async def test_a_node_not_heard_of_is_down_after_three_periods(lead, store, clock):
    await write(store, Create(builders.node("n1")), Create(builders.node("n2")))
    leader = lead(store, Planner())
    leader.heard = {"n1": clock.now(), "n2": clock.now()}
    for _ in range(4):
        await asyncio.sleep(2)
        leader.heard = {**leader.heard, "n1": clock.now()}
    states = {node.id: node.status.state for node in store.view().nodes.values()}
    assert states == {"n1": NodeState.READY, "n2": NodeState.DOWN}


async def test_a_faster_pace_is_not_asked_of_what_was_heard_at_the_slower_one(lead, store, clock):
    paced = [ClusterSpec(dispatcher=Dispatcher(heartbeat_period=seconds * 10**9)) for seconds in (20, 2)]
    await write(store, Create(Cluster(id="c1", spec=paced[0])), Create(builders.node("n1")))
    lead(store, Planner(), {"n1": clock.now()})
    await asyncio.sleep(15)
    await write(store, Update(replace(store.view().cluster, spec=paced[1])))
    await asyncio.sleep(5.9)
    assert store.view().nodes["n1"].status.state is NodeState.READY
    await asyncio.sleep(0.2)
    assert store.view().nodes["n1"].status.state is NodeState.DOWN


async def test_a_new_leader_gives_a_node_it_did_not_hear_twice_the_time(lead, store, clock):
    await write(store, Create(builders.node("n1")))
    await asyncio.sleep(100)
    lead(store, Planner())
    await asyncio.sleep(11.9)
    assert store.view().nodes["n1"].status.state is NodeState.READY
    await asyncio.sleep(0.2)
    assert store.view().nodes["n1"].status.state is NodeState.DOWN


def test_the_pauses_begin_with_none():
    assert control_loop.BACKOFF[0] == 0.0
