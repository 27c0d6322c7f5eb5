# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real managers on loopback, with TLS, disks and threads as in production."""

import asyncio
import errno
import os
import socket

import pytest

from covey.model.errors import BadState, FailedPrecondition, NotLeader, Unavailable
from covey.store.raft import bootstrap
from covey.store.raft.files import RealFiles, SyncFailed
from tests.raft.harness import create, eventually


async def test_a_lone_manager_leads_without_waiting_for_an_election_timeout(calm):
    await calm.found()
    await calm.leader()


async def test_a_lone_manager_keeps_its_state_over_a_restart(calm):
    member = await calm.found()
    await calm.write("web")
    await member.stop()
    await member.start()
    await calm.leader()
    assert "web" in (await member.store.barrier(5)).services


async def test_a_lone_manager_keeps_every_acknowledged_write_over_a_crash(calm):
    member = await calm.found()
    for round_ in range(3):
        for number in range(5):
            await calm.write(f"s{round_}{number}")
        await member.crash()
        await member.start()
        await calm.leader()
        assert len((await member.store.barrier(5)).services) == 5 * (round_ + 1)


async def test_all_three_hold_what_was_written(calm):
    await calm.of(3)
    names = [await calm.write(f"s{number}") for number in range(20)]
    for member in calm.running():
        await calm.holds(member, names)
        assert set(member.store.members()) == {"node-a", "node-b", "node-c"}
    views = [member.store.view() for member in calm.running()]
    assert views[0].services == views[1].services == views[2].services


async def test_a_follower_names_the_leader(calm):
    await calm.of(3)
    leader = await calm.leader()
    follower = next(member for member in calm.running() if member is not leader)
    await eventually(lambda: follower.store.leadership().leader == leader.node_id)
    for call in (follower.store.propose(create("web"), 5), follower.store.barrier(5)):
        with pytest.raises(NotLeader) as refusal:
            await call
        assert refusal.value.leader == leader.node_id


async def test_losing_the_leader_under_load_loses_no_acknowledged_write(cluster):
    await cluster.of(3)
    acknowledged = []

    async def writer(number):
        for count in range(60):
            acknowledged.append(await cluster.write(f"w{number}-{count}", timeout=20))

    writers = asyncio.gather(*(writer(number) for number in range(4)))
    for _ in range(2):
        await asyncio.sleep(0.3)
        leader = await cluster.leader()
        await leader.crash()
        await cluster.leader()
        await leader.start()
    await writers
    assert len(acknowledged) == 240
    for member in cluster.running():
        await cluster.holds(member, acknowledged)


async def test_all_three_come_back_from_a_crash_of_all(cluster):
    await cluster.of(3)
    names = [await cluster.write(f"s{number}") for number in range(10)]
    members = cluster.running()
    await asyncio.gather(*(member.crash() for member in members))
    await asyncio.gather(*(member.start() for member in members))
    assert set(names) <= set((await (await cluster.leader()).store.barrier(5)).services)
    for member in members:
        await cluster.holds(member, names)


async def test_without_a_majority_nothing_is_acknowledged_and_leadership_ends(cluster):
    await cluster.of(3)
    leader = await cluster.leader()
    for member in cluster.running():
        if member is not leader:
            await member.stop()
    with pytest.raises(Unavailable, match="may still take effect"):
        await leader.store.propose(create("lost"), 5)
    assert not leader.store.leadership().leading
    with pytest.raises(NotLeader):
        await leader.store.barrier(1)


async def test_a_follower_that_went_astray_comes_back_to_the_others(cluster):
    """An entry that only a cut-off leader has gives way to what the majority wrote meanwhile."""
    await cluster.of(3)
    stray = await cluster.leader()
    others = [member for member in cluster.running() if member is not stray]
    for member in others:
        await member.crash()
    with pytest.raises((Unavailable, NotLeader)):
        await stray.store.propose(create("stray"), 2)
    await stray.crash()
    for member in others:
        await member.start()
    await cluster.write("kept")
    await stray.start()
    for member in cluster.running():
        await cluster.holds(member, ["kept"])
        assert "stray" not in member.store.view().services


async def test_a_fresh_manager_gets_the_state_as_a_snapshot(calm):
    founder = await calm.found()
    names = [await calm.write(f"s{number}") for number in range(30)]
    await founder.store.compact()
    await eventually(lambda: (founder.directory / "snapshot").exists())
    log = founder.store._engine._disk.log
    founder.store._engine.loop.call_soon_threadsafe(log.drop_before, 20)
    names.append(await calm.write("after"))
    joiner = await calm.join("node-b")
    await calm.holds(joiner, names)
    assert (joiner.directory / "snapshot").exists()
    await joiner.crash()
    await joiner.start()
    await calm.holds(joiner, names)


async def test_a_snapshot_and_the_log_behind_it_survive_a_restart(calm):
    member = await calm.found()
    names = [await calm.write(f"s{number}") for number in range(10)]
    await member.store.compact()
    await eventually(lambda: (member.directory / "snapshot").exists())
    names += [await calm.write(f"t{number}") for number in range(10)]
    await member.crash()
    await member.start()
    await calm.leader()
    assert set(names) <= set((await member.store.barrier(5)).services)


async def test_a_removed_manager_has_no_vote_and_no_voice(cluster):
    await cluster.of(3)
    leader = await cluster.leader()
    gone = next(member for member in cluster.running() if member is not leader)
    await leader.store.remove_member(gone.node_id, 5)
    assert set(leader.store.members()) == set(cluster.members) - {gone.node_id}
    await cluster.write("after")
    await asyncio.sleep(3 * cluster.timings.election_max)
    await cluster.write("later")
    assert not gone.store.leadership().leading
    assert not {"after", "later"} & set(gone.store.view().services)


async def test_a_leader_that_is_to_be_removed_hands_over_first(cluster):
    await cluster.of(3)
    leader = await cluster.leader()
    with pytest.raises(NotLeader):
        await leader.store.remove_member(leader.node_id, 5)
    await eventually(lambda: not leader.store.leadership().leading)
    heir = await cluster.leader()
    assert heir is not leader
    await heir.store.remove_member(leader.node_id, 5)
    await cluster.write("after")


async def test_a_removal_that_would_cost_the_majority_is_refused_and_says_why(cluster):
    await cluster.of(3)
    leader = await cluster.leader()
    down, other = [member for member in cluster.running() if member is not leader]
    await down.stop()
    await asyncio.sleep(2 * cluster.timings.leader_fallback)
    with pytest.raises(FailedPrecondition, match=f"silent: {down.node_id}"):
        await leader.store.remove_member(other.node_id, 5)
    await leader.store.remove_member(down.node_id, 5)
    await cluster.write("after")


async def test_a_manager_that_does_not_answer_is_not_added(calm):
    leader = await calm.found()
    await calm.leader()
    with pytest.raises(FailedPrecondition, match=r"node-b cannot be reached at 127\.0\.0\.1:1 "):
        await leader.store.add_member("node-b", "127.0.0.1:1", 5)
    await calm.write("after")


async def test_a_manager_that_moved_is_found_again(calm):
    await calm.of(3)
    leader = await calm.leader()
    mover = next(member for member in calm.running() if member is not leader)
    await mover.stop()
    mover.port = 0
    await mover.start()
    await calm.write("after")
    await calm.holds(mover, ["after"])
    await eventually(lambda: leader.store.members()[mover.node_id] == mover.address)


async def test_one_directory_serves_one_process(calm):
    member = await calm.found()
    with pytest.raises(BadState, match="another process"):
        bootstrap(member.directory, member.node_id, member.address)


async def test_a_taken_port_is_named_and_the_directory_left_free(calm):
    member = await calm.found()
    await member.stop()
    with socket.create_server(("127.0.0.1", member.port)), pytest.raises(FailedPrecondition, match=str(member.port)):
        await member.start()
    await member.start()
    await calm.leader()


async def test_a_directory_without_state_is_not_started(cluster):
    member = cluster.member("node-a")
    with pytest.raises(BadState, match="form or join a cluster first"):
        await member.start()
    member.store = None


@pytest.mark.parametrize("name", ["journal-0000000001", "hard", "dek", "kek"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "foreign"])
async def test_a_damaged_directory_is_refused_and_left_as_it_is(calm, name, damage):
    member = await calm.found()
    for number in range(5):
        await calm.write(f"s{number}")
    await member.stop()
    path = member.directory / name
    data = path.read_bytes()
    content = {"empty": b"", "half": data[: len(data) // 2], "foreign": bytes(len(data))}
    path.unlink()
    if damage in content:
        path.write_bytes(content[damage])
    before = {file.name: file.read_bytes() for file in member.directory.iterdir()}
    with pytest.raises(BadState, match=str(member.directory)):
        await member.start()
    member.store = None
    assert {file.name: file.read_bytes() for file in member.directory.iterdir()} == before


class Failing(RealFiles):
    """Files of which one call fails from some moment on."""

    def __init__(self, call, number):
        self._call, self._number = call, number

    def write(self, fd, data):
        if self._call == "write":
            os.write(fd, data[: len(data) // 2])
            raise OSError(self._number, os.strerror(self._number))
        super().write(fd, data)

    def sync(self, fd):
        if self._call == "sync":
            raise SyncFailed(os.strerror(self._number))
        super().sync(fd)


def fail(member, files):
    """Have every write of that member's disk pass through ``files`` from now on."""
    log = member.store._engine._disk.log
    log._journal._files = log._hard._files = files


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [("write", errno.EIO, "Input/output error"), ("sync", errno.ENOSPC, "No space left on device")],
)
async def test_a_disk_that_fails_stops_the_store_with_a_reason(calm, call, number, reason):
    """A sync that fails is never tried again, not even for want of room."""
    member = await calm.found()
    await calm.write("kept")
    fail(member, Failing(call, number))
    with pytest.raises(Unavailable):
        await member.store.propose(create("lost"), 5)
    assert reason in str(await member.store.failed())
    assert not member.store.leadership().leading
    with pytest.raises(Unavailable, match=reason):
        await member.store.propose(create("lost"), 5)
    await member.stop()
    await member.start()
    await calm.leader()
    assert "kept" in (await member.store.barrier(5)).services


async def test_a_full_disk_stops_no_store(calm):
    member = await calm.found()
    await calm.write("kept")
    fail(member, Failing("write", errno.ENOSPC))
    with pytest.raises(Unavailable):
        await member.store.propose(create("waiting"), 5)
    await eventually(member.store.trouble)
    with pytest.raises(Unavailable, match=r"is full.*Nothing was changed"):
        await member.store.propose(create("lost"), 5)
    assert "kept" in member.store.view().services
    fail(member, RealFiles())
    await calm.leader()
    assert member.store.trouble() == ""
    await calm.write("after")
    await member.crash()
    await member.start()
    await calm.leader()
    assert {"kept", "after"} <= set((await member.store.barrier(5)).services)


async def test_a_leader_with_a_full_disk_hands_over(cluster):
    await cluster.of(3)
    full = await cluster.leader()
    fail(full, Failing("write", errno.ENOSPC))
    names = [await cluster.write(f"s{number}") for number in range(10)]
    assert (await cluster.leader()) is not full
    assert full.store.trouble()
    fail(full, RealFiles())
    await cluster.holds(full, names)


async def test_renewed_certificates_are_shown_to_all_without_a_new_election(cluster):
    """Each manager renews three times under writes; every connection is made anew, and no write fails."""
    await cluster.of(3)
    leader = await cluster.leader()
    term, names, over = leader.store.leadership().term, [], asyncio.Event()

    async def write():
        while not over.is_set():
            name = f"r{len(names)}"
            await leader.store.propose(create(name), 5)
            names.append(name)

    writer = asyncio.create_task(write())
    for _ in range(3):
        for member in cluster.running():
            before = links(member)
            cluster.authority.contexts(member.node_id)
            member.store.redial()
            await eventually(
                lambda member=member, before=before: not links(member) & before and len(links(member)) == 2
            )
    over.set()
    await writer
    assert leader.store.leadership().term == term
    for member in cluster.running():
        await cluster.holds(member, names)


async def test_a_member_that_cannot_be_dialled_anew_keeps_its_old_connection(calm):
    await calm.of(2)
    leader, other = await calm.leader(), calm.members["node-b"]
    await calm.holds(other, [await calm.write("before")])
    before, refusals = links(leader), other.store._engine._network.refusals
    leader.store._engine._network._contexts = calm.authority.contexts(leader.node_id, role="swarm-worker")
    leader.store.redial()
    await eventually(lambda: other.store._engine._network.refusals > refusals)
    await calm.holds(other, [await calm.write("after")])
    assert links(leader) == before


def links(member):
    """The connections that the member speaks on now."""
    peers = member.store._engine._network._peers.values()
    return {peer.speaking for peer in peers if peer.speaking is not None}
