# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store promises, asked of each implementation."""

import asyncio

import pytest

from covey.model.changes import Batch
from covey.model.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, NotLeader, OutOfSequence
from covey.store.base import MAX_COMMAND
from covey.store.memory import MemoryStore
from tests.raft.harness import Authority, Cluster, create, delete, eventually


@pytest.fixture(params=["memory", "raft"])
async def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore("node-a")
        return
    cluster = Cluster(tmp_path, Authority(tmp_path))
    member = await cluster.found()
    await cluster.leader()
    yield member.store
    await cluster.close()


async def test_a_write_is_in_the_view_when_it_returns(store):
    index = await store.propose(create("web"), 5)
    assert store.view().service_named("web").version == index
    assert store.view().index >= index


async def test_indexes_grow(store):
    assert await store.propose(create("a"), 5) < await store.propose(create("b"), 5)


async def test_a_view_never_changes(store):
    before = store.view()
    await store.propose(create("web"), 5)
    assert "web" not in before.services


async def test_a_taken_name_is_a_conflict_and_changes_nothing(store):
    await store.propose(create("web"), 5)
    with pytest.raises(Conflict, match="web already exists"):
        await store.propose(create("web"), 5)
    assert list(store.view().services) == ["web"]


async def test_a_command_that_no_entry_holds_is_refused_and_changes_nothing(store):
    with pytest.raises(InvalidArgument, match="at most 2097152 fit into one"):
        await store.propose(create("x" * MAX_COMMAND), 5)
    assert not store.view().services


async def test_a_stale_version_is_out_of_sequence(store):
    index = await store.propose(create("web"), 5)
    with pytest.raises(OutOfSequence, match="update out of sequence"):
        await store.propose(delete("web", index - 1), 5)


async def test_a_batch_is_all_or_nothing(store):
    changes = (*create("new").changes, *delete("missing", 1).changes)
    with pytest.raises(NotFound):
        await store.propose(Batch(request_id="", at=1.0, changes=changes), 5)
    assert not store.view().services


async def test_a_repeated_request_takes_effect_once(store):
    first = await store.propose(create("web", "request-1"), 5)
    assert await store.propose(create("web", "request-1"), 5) == first
    assert store.view().service_named("web").version == first


async def test_a_repeated_request_is_refused_again(store):
    await store.propose(create("web"), 5)
    for _ in range(2):
        with pytest.raises(Conflict):
            await store.propose(create("web", "request-1"), 5)


async def test_a_store_that_takes_part_has_no_trouble(store):
    assert store.trouble() == ""


async def test_who_leads_says_so(store):
    leadership = store.leadership()
    assert leadership.leading
    assert leadership.leader == "node-a"
    assert leadership.term >= 1


async def test_the_fence_of_this_term_passes_and_an_older_one_does_not(store):
    term = store.leadership().term
    await store.propose(create("now", fence=term), 5)
    with pytest.raises((NotLeader, Conflict)):
        await store.propose(create("then", fence=term - 1 or 99), 5)
    assert list(store.view().services) == ["now"]


async def test_a_barrier_shows_every_acknowledged_write(store):
    await store.propose(create("web"), 5)
    assert "web" in (await store.barrier(5)).services


async def test_a_waiter_returns_at_once_the_first_time_and_then_on_change(store):
    waiter = store.changed()
    await waiter.wait()
    waiting = asyncio.ensure_future(waiter.wait())
    await store.propose(create("web"), 5)
    await waiting
    assert "web" in store.view().services


async def test_a_waiter_misses_nothing_that_happened_while_nobody_waited(store):
    waiter = store.changed()
    await waiter.wait()
    await store.propose(create("a"), 5)
    await store.propose(create("b"), 5)
    await waiter.wait()
    assert set(store.view().services) == {"a", "b"}


async def test_asking_wakes_nobody(store):
    """A loop that reads when it is woken must come to rest."""
    await store.propose(create("web"), 5)
    waiter = store.changed()
    await waiter.wait()
    waiting = asyncio.ensure_future(waiter.wait())
    for _ in range(3):
        await store.barrier(5)
    assert not waiting.done()
    waiting.cancel()


async def test_every_waiter_wakes(store):
    waiters = [store.changed() for _ in range(3)]
    await store.propose(create("web"), 5)
    await asyncio.gather(*(waiter.wait() for waiter in waiters))


async def test_many_writers_at_once_all_succeed(store):
    indexes = await asyncio.gather(*(store.propose(create(f"s{n}"), 10) for n in range(50)))
    assert len(set(indexes)) == 50
    assert len(store.view().services) == 50


async def test_a_caller_that_gives_up_harms_nobody(store):
    task = asyncio.ensure_future(store.propose(create("web"), 5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.propose(create("other"), 5)
    assert "other" in store.view().services


async def test_the_members_are_known(store):
    members = await eventually(store.members)
    assert list(members) == ["node-a"]


async def test_adding_a_member_again_and_removing_a_stranger_change_nothing(store):
    members = dict(store.members())
    await store.add_member("node-a", members["node-a"], 5)
    await store.remove_member("node-z", 5)
    assert dict(store.members()) == members


async def test_the_last_member_cannot_be_removed(store):
    with pytest.raises(FailedPrecondition, match="last manager"):
        await store.remove_member("node-a", 5)
