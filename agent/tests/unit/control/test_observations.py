# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - the store's own signature
"""The queue of workers' words: nobody waits for ever, and nothing is written out of order or in one huge entry."""

from __future__ import annotations

import asyncio

import builders
import pytest

from covey.control.observations import LIMIT, LONGEST, Observations
from covey.model.changes import Batch, Create, ObserveNode
from covey.model.errors import FailedPrecondition, InvalidArgument, NotLeader
from covey.model.objects import NodeDescription
from covey.store.memory import MemoryStore


class Slow(MemoryStore):
    """Confirms after a second."""

    sizes: tuple[int, ...] = ()

    async def propose(self, batch: Batch, timeout: float) -> int:
        self.sizes = (*self.sizes, len(batch.changes))
        await asyncio.sleep(1)
        return await super().propose(batch, timeout)


@pytest.fixture
def store():
    return Slow("manager1")


def word(hostname: str) -> ObserveNode:
    return ObserveNode("n1", None, NodeDescription(hostname=hostname))


async def ended(task: asyncio.Task) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_waits_hears_when_the_queue_ends(store, clock):
    queue = Observations(store, clock)
    running = asyncio.create_task(queue.run())
    under_way = queue.submit(word("a"))
    await asyncio.sleep(0.5)
    behind = queue.submit(word("b"))
    await ended(running)
    for future in (under_way, behind):
        assert isinstance(future.exception(), NotLeader)


async def test_who_waits_hears_when_the_leadership_is_gone(store, clock):
    queue = Observations(store, clock)
    store.depose("manager2")
    running = asyncio.create_task(queue.run())
    with pytest.raises(NotLeader):
        await queue.submit(word("a"))
    store.elect()
    await queue.submit(word("b"))
    await ended(running)


async def test_order_is_kept(store, clock):
    await store.propose(Batch("", 0.0, (Create(builders.node("n1")),)), 1)
    queue = Observations(store, clock)
    running = asyncio.create_task(queue.run())
    futures = [queue.submit(word("first"))]
    await asyncio.sleep(0.5)
    futures += [queue.submit(word("second")), queue.submit(word("third"))]
    await asyncio.gather(*futures)
    assert store.view().nodes["n1"].description.hostname == "third"
    assert store.sizes == (1, 1, 2)
    await ended(running)


async def test_an_entry_has_a_limit(store, clock):
    queue = Observations(store, clock)
    running = asyncio.create_task(queue.run())
    half = [word("x")] * (LIMIT // 2)
    await asyncio.gather(*(queue.submit(*half) for _ in range(3)), queue.submit(*half, *half, *half))
    assert store.sizes == (LIMIT, LIMIT // 2, 3 * LIMIT // 2)
    await ended(running)


async def test_many_bytes_are_several_entries_and_done_when_all_are_in(store, clock):
    await store.propose(Batch("", 1.0, (Create(builders.node("n1")),)), 1)
    queue = Observations(store, clock)
    running = asyncio.create_task(queue.run())
    store.sizes = ()
    done = queue.submit(*(word("h" * (LONGEST - 1000)) for _ in range(10)))
    await asyncio.sleep(2.5)
    assert not done.done()
    await done
    assert store.sizes == (4, 4, 2)
    await ended(running)


async def test_a_word_that_is_too_long_is_refused_and_holds_nobody_up(store, clock):
    await store.propose(Batch("", 1.0, (Create(builders.node("n1")),)), 1)
    queue = Observations(store, clock)
    running = asyncio.create_task(queue.run())
    with pytest.raises(InvalidArgument, match=f"at most {LONGEST}"):
        await queue.submit(word("a"), word("h" * LONGEST))
    await queue.submit(word("b"))
    assert store.view().nodes["n1"].description.hostname == "b"
    await ended(running)


async def test_what_the_store_refuses_for_another_reason_ends_nothing(store, clock):
    await store.propose(Batch("", 1.0, (Create(builders.node("n1")),)), 1)
    queue, propose = Observations(store, clock), store.propose

    async def refuse(batch, timeout):
        store.propose = propose
        raise FailedPrecondition("not yet")

    store.propose = refuse
    running = asyncio.create_task(queue.run())
    with pytest.raises(FailedPrecondition):
        await queue.submit(word("a"))
    await queue.submit(word("b"))
    await ended(running)
