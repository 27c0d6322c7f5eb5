# SPDX-License-Identifier: GPL-3.0-or-later
"""A new epoch grown from one survivor: it has all that was acknowledged, and the others of old have no part in it."""

import asyncio
import socket

import pytest

from covey.model.changes import Batch
from covey.model.errors import Superseded
from covey.store.raft import prepare_join
from covey.store.raft.transplant import Voter, extract, plant
from covey.store.raft.transport import DIAL_TIMEOUT
from tests.raft.harness import eventually

EPOCH = 1_790_000_000
NOTHING = Batch("", 1.0, ())


def recover(member, epoch=EPOCH):
    """Make the member, which does not run, the only voter of ``epoch``."""
    root = extract(member.directory, member.node_id)
    member.directory.rename(member.directory.with_name(f"{member.node_id}-before-{epoch}"))
    plant(member.directory, Voter(member.node_id, member.address), root, NOTHING, epoch)


async def crash_all(cluster):
    for member in cluster.running():
        await member.crash()


@pytest.fixture
async def survivor(cluster):
    """The third of three managers, recovered, after five writes, all of them down before."""
    await cluster.of(3)
    for number in range(5):
        await cluster.write(f"w{number}")
    await cluster.holds(cluster.members["node-c"], [f"w{number}" for number in range(5)])
    await crash_all(cluster)
    survivor = cluster.members["node-c"]
    recover(survivor)
    return survivor


async def test_the_survivor_leads_alone_with_all_that_was_acknowledged(cluster, survivor):
    store = await survivor.start()
    await eventually(lambda: store.leadership().leading)
    assert store.members() == {"node-c": survivor.address}
    assert {f"w{number}" for number in range(5)} <= set(store.view().service_names)
    await cluster.write("after")
    await survivor.crash()
    await survivor.start()
    await cluster.holds(survivor, ["w0", "after"])


async def test_versions_are_not_given_out_twice(cluster, survivor):
    await survivor.start()
    await cluster.holds(survivor, ["w4"])
    before = max(service.version for service in survivor.store.view().services.values())
    await cluster.write("after")
    assert survivor.store.view().services["after"].version > before + 1000


async def test_old_managers_learn_that_they_are_superseded_and_keep_what_they_have(cluster, survivor):
    await survivor.start()
    await eventually(lambda: survivor.store.leadership().leading)
    for name in ("node-a", "node-b"):
        old = cluster.members[name]
        store = await old.start()
        error = await asyncio.wait_for(store.failed(), 10)
        assert isinstance(error, Superseded)
        assert "2026-09-21" in str(error)
        await old.stop()
        with pytest.raises(Superseded):
            await old.start()
        old.store = None
        assert "w0" in extract(old.directory, name).view.service_names
    assert survivor.store.members() == {"node-c": survivor.address}
    await cluster.write("after")


async def test_what_somebody_else_heard_of_counts_too(cluster):
    member = await cluster.found()
    member.store.supersede(0)
    await cluster.write("still-works")
    member.store.supersede(EPOCH)
    assert isinstance(await asyncio.wait_for(member.store.failed(), 10), Superseded)


async def test_a_new_manager_joins_the_new_epoch(cluster, survivor):
    await survivor.start()
    leader = await cluster.leader()
    fresh = cluster.member("node-d")
    prepare_join(fresh.directory, "node-d", leader.store.voters(), EPOCH)
    await fresh.start()
    await leader.store.add_member("node-d", fresh.address, 10)
    await cluster.holds(fresh, ["w0", "w4"])
    await cluster.write("with-both")
    await cluster.holds(fresh, ["with-both"])


async def test_planting_can_be_interrupted_and_called_again(cluster, tmp_path):
    member = await cluster.found()
    await cluster.write("w0")
    await member.crash()
    root = extract(member.directory, "node-a")
    place = tmp_path / "grown.new"
    place.mkdir()
    (place / "hard").write_bytes(b"half")
    plant(tmp_path / "grown", Voter("node-a", member.address), root, NOTHING, EPOCH)
    grown = extract(tmp_path / "grown", "node-a")
    assert (grown.epoch, set(grown.view.service_names)) == (EPOCH, {"w0"})
    assert grown.term > root.term


async def test_an_election_waits_until_every_voter_was_asked_once(cluster):
    """So that managers of old that start together do not decide anything before the recovered one was heard."""
    await cluster.of(3)
    await crash_all(cluster)
    with socket.create_server(("127.0.0.1", cluster.members["node-c"].port)):
        begin = asyncio.get_running_loop().time()
        for name in ("node-a", "node-b"):
            await cluster.members[name].start()
        await cluster.leader()
        assert asyncio.get_running_loop().time() - begin >= DIAL_TIMEOUT


async def test_who_is_left_of_three_knows_that_nobody_leads(cluster):
    """Else nothing could be recovered from it, and its callers would be sent to a leader that is gone."""
    await cluster.of(3)
    await cluster.write("w0")
    leader = await cluster.leader()
    left = next(member for member in cluster.running() if member is not leader)
    await eventually(lambda: left.store.leadership().leader is not None)
    for member in cluster.running():
        if member is not left:
            await member.crash()
    await eventually(lambda: left.store.leadership().leader is None)
    assert not left.store.leadership().leading
