# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers that come, go and come back, on loopback with TLS, disks and threads as in production."""

import asyncio
import shutil

import pytest

from covey.model.errors import FailedPrecondition, NotLeader, Unavailable
from covey.store.raft.membership import node_of
from tests.raft.harness import create, eventually


async def follower(cluster):
    leader = await cluster.leader()
    return next(member for member in cluster.running() if member is not leader)


async def take_vote(cluster, member):
    """As the leader's membership does, whoever leads meanwhile."""
    for _ in range(20):
        try:
            await (await cluster.leader()).store.remove_member(member.node_id, 10)
        except (NotLeader, Unavailable):
            continue
        return
    raise AssertionError("never removed")


async def leave(cluster, member):
    """Lose the vote, end, and forget everything, as a demoted node does."""
    await take_vote(cluster, member)
    await member.stop()
    shutil.rmtree(member.directory)


def ids(member):
    return set(member.store.voters())


async def test_a_node_promoted_again_is_another_member(calm):
    await calm.of(3)
    member = await follower(calm)
    before = member.store.raft_id
    await calm.write("before")
    await leave(calm, member)
    await calm.write("meanwhile")
    await calm.join(member.node_id)
    assert member.store.raft_id != before
    assert node_of(member.store.raft_id) == member.node_id
    await calm.holds(member, ["before", "meanwhile"])
    for each in calm.running():
        await eventually(lambda each=each: member.store.raft_id in ids(each))
        assert before not in ids(each)
    await eventually(lambda: member.store.votes)


async def test_a_node_that_lost_its_directory_takes_the_place_of_its_former_self(calm):
    await calm.of(3)
    member = await follower(calm)
    before = member.store.raft_id
    await member.stop()
    shutil.rmtree(member.directory)
    leader = await calm.leader()
    await calm.join(member.node_id)
    assert set(leader.store.members()) == {"node-a", "node-b", "node-c"}
    assert before not in ids(leader)
    await calm.write("after")
    await calm.holds(member, ["after"])


async def test_asking_again_for_a_vote_changes_nothing(calm):
    await calm.of(2)
    leader, other = calm.members["node-a"], calm.members["node-b"]
    voters = leader.store.voters()
    link = leader.store._engine._network._peers[other.store.raft_id].speaking
    await leader.store.add_member("node-b", other.address, 5)
    assert leader.store.voters() == voters
    assert leader.store._engine._network._peers[other.store.raft_id].speaking is link


async def test_a_cluster_grows_to_seven_and_shrinks_to_one(calm):
    await calm.found("n0")
    names = [await calm.write("s0")]
    for number in range(1, 7):
        await calm.join(f"n{number}")
        names.append(await calm.write(f"s{number}"))
    for member in calm.running():
        await calm.holds(member, names)
        assert len(member.store.members()) == 7
    for number in range(6, 0, -1):
        await leave(calm, calm.members[f"n{number}"])
        names.append(await calm.write(f"t{number}"))
    assert set(calm.members["n0"].store.members()) == {"n0"}
    assert set(names) <= set((await calm.members["n0"].store.barrier(5)).services)
    with pytest.raises(FailedPrecondition, match="last manager"):
        await calm.members["n0"].store.remove_member("n0", 5)


async def test_the_leader_loses_its_vote_under_load(cluster):
    await cluster.of(3)
    leader, acknowledged, stop = await cluster.leader(), [], asyncio.Event()

    async def writer(number):
        count = 0
        while not stop.is_set():
            acknowledged.append(await cluster.write(f"w{number}-{count}", timeout=20))
            count += 1

    writers = [asyncio.create_task(writer(number)) for number in range(8)]
    await eventually(lambda: len(acknowledged) > 40)
    with pytest.raises(NotLeader):
        await leader.store.remove_member(leader.node_id, 10)
    await take_vote(cluster, leader)
    await leader.stop()
    before = len(acknowledged)
    await eventually(lambda: len(acknowledged) > before + 40)
    stop.set()
    await asyncio.gather(*writers)
    for member in cluster.running():
        assert leader.node_id not in member.store.members()
        await cluster.holds(member, acknowledged)


async def test_a_leader_that_nobody_can_follow_keeps_its_vote_and_says_why(cluster):
    await cluster.of(3)
    leader = await cluster.leader()
    down = await follower(cluster)
    await down.stop()
    await eventually(lambda: down.node_id not in leader.store.reachable())
    with pytest.raises(FailedPrecondition, match=f"removing manager {leader.node_id} .*silent: {down.node_id}"):
        await leader.store.remove_member(leader.node_id, 10)
    assert leader.store.leadership().leading
    await cluster.write("after")


async def test_a_removed_manager_is_told_and_cut_off_at_once(calm):
    await calm.of(3)
    leader, gone = await calm.leader(), await follower(calm)
    await leader.store.remove_member(gone.node_id, 5)
    await eventually(lambda: "vote was taken away" in gone.store.trouble(), timeout=2)
    for member in calm.running():
        if member is not gone:
            await eventually(lambda member=member: gone.store.raft_id not in member.store._engine._network._peers)
    assert not gone.store._engine._network._peers
    with pytest.raises(Unavailable, match="vote was taken away"):
        await gone.store.propose(create("x"), 5)


async def test_who_answers_the_leader_is_known(cluster):
    await cluster.of(3)
    leader, other = await cluster.leader(), await follower(cluster)
    await eventually(lambda: leader.store.reachable() == {"node-a", "node-b", "node-c"})
    assert other.store.reachable() == frozenset()
    await other.stop()
    await eventually(lambda: leader.store.reachable() == {"node-a", "node-b", "node-c"} - {other.node_id})


async def test_a_newcomer_gets_its_vote_while_writes_never_cease(calm):
    founder, stop = await calm.found(), asyncio.Event()
    await calm.leader()

    async def writer(number):
        count = 0
        while not stop.is_set():
            await founder.store.propose(create(f"w{number}-{count}"), 10)
            count += 1

    writers = [asyncio.create_task(writer(number)) for number in range(20)]
    await eventually(lambda: len(founder.store.view().services) > 100)
    await calm.join("node-b")
    stop.set()
    await asyncio.gather(*writers)
    assert set(founder.store.members()) == {"node-a", "node-b"}
    await calm.holds(calm.members["node-b"], founder.store.view().service_names)


async def test_the_lead_is_not_offered_to_one_whose_disk_is_full(cluster):
    """It holds everything and is connected, so that it would be asked first, and would never answer."""
    await cluster.of(4)
    leader = await cluster.leader()
    full = max((member for member in cluster.running() if member is not leader), key=lambda m: m.store.raft_id)
    full.store._engine._core.stalled = True
    await eventually(lambda: full.node_id not in leader.store.reachable())
    with pytest.raises(NotLeader):
        await leader.store.remove_member(leader.node_id, 10)
    assert await cluster.leader() not in (leader, full)


async def test_whoever_waits_for_a_change_is_answered_when_the_store_ends(calm, monkeypatch):
    """A newcomer that takes in nothing keeps the call waiting."""
    monkeypatch.setattr("tests.raft.harness.Member.start", mute(calm.member("node-b")))
    founder = await calm.found()
    await calm.leader()
    joining = asyncio.create_task(calm.join("node-b"))
    await eventually(lambda: founder.store._engine._core.followers())
    await founder.stop()
    with pytest.raises(Unavailable, match="the store has stopped"):
        await asyncio.wait_for(joining, 2)


async def test_a_newcomer_that_cannot_be_brought_up_costs_no_majority(calm, monkeypatch):
    """Of one that answers, but takes in nothing, the leader never depends."""
    monkeypatch.setattr("covey.store.raft.engine.CATCH_UP", 0.5)
    monkeypatch.setattr("tests.raft.harness.Member.start", mute(calm.member("node-b")))
    founder = await calm.found()
    await calm.write("before")
    with pytest.raises(Unavailable, match=r"node-b has not received all .* gets its vote then"):
        await calm.join("node-b")
    assert set(founder.store.members()) == {"node-a"}
    await calm.write("after")
    calm.members["node-b"].store._engine._core.stalled = False
    await founder.store.add_member("node-b", calm.members["node-b"].address, 10)
    await calm.holds(calm.members["node-b"], ["before", "after"])


def mute(silent):
    """A start after which the ``silent`` member takes in nothing until that is taken back."""
    from tests.raft.harness import Member

    start = Member.start

    async def started(member):
        store = await start(member)
        if member is silent:
            store._engine._core.stalled = True
        return store

    return started
