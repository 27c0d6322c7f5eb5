# SPDX-License-Identifier: GPL-3.0-or-later
"""This release and a made-up next one in one cluster of real managers: they work together, or nothing is written."""

import pytest

from covey.manager.membership import Membership
from covey.model.changes import FORMAT, Batch, Create, ObserveNode
from covey.model.errors import BadState, FailedPrecondition
from covey.model.objects import Node, NodeDescription
from covey.model.spec import NodeSpec, Role
from covey.state.codec import _PLAIN_CHANGES, CODEC, Codec, decode_batch
from tests.raft.harness import eventually
from tests.unit.manager.test_membership import FixedClock


class Renamed(ObserveNode):
    """A kind of change that the next release has."""


NEXT_FORMAT = FORMAT + 1
NEXT = Codec(NEXT_FORMAT, {**_PLAIN_CHANGES, "rename": Renamed}, {"rename": NEXT_FORMAT})
NAMES = ("node-a", "node-b", "node-c")


def described(name, codec):
    return NodeDescription(hostname=name, state_format=codec.newest, agent_version="0.1.0")


def manager(name, codec):
    spec = NodeSpec(role=Role.MANAGER)
    address = f"{name}:2377" if name in NAMES else ""
    return Node(id=name, spec=spec, role=Role.MANAGER, manager_address=address, description=described(name, codec))


def rename(to):
    return Batch("", 0.0, (Renamed("node-a", None, NodeDescription(hostname=to, state_format=NEXT_FORMAT)),))


async def propose(cluster, batch):
    leader = await cluster.leader()
    return await leader.store.propose(batch, 5)


def hostnames(cluster):
    nodes = (member.store.view().nodes.get("node-a") for member in cluster.running())
    return {node and node.description.hostname for node in nodes}


@pytest.fixture
async def mixed(calm):
    """Two managers of the next release, the leader among them, and one of this."""
    for name in ("node-a", "node-b"):
        calm.member(name).codec = NEXT
    await calm.of(3)
    for name in NAMES:
        await propose(calm, Batch("", 0.0, (Create(manager(name, calm.member(name).codec)),)))
    return calm


async def upgrade(cluster, name):
    member = cluster.member(name)
    await member.stop()
    member.codec = NEXT
    await member.start()
    await propose(cluster, Batch("", 0.0, (ObserveNode(name, None, described(name, NEXT)),)))


async def test_what_all_can_read_is_written_and_what_one_cannot_is_refused(mixed):
    before = (await mixed.leader()).store.view()
    with pytest.raises(FailedPrecondition, match=f"format {NEXT_FORMAT} .* node-c cannot read: upgrade the agent"):
        await propose(mixed, rename("luna"))
    assert (await mixed.leader()).store.view() is before

    await mixed.write("plain")
    for member in mixed.running():
        await mixed.holds(member, ["plain"])
    assert {member.store.view().format for member in mixed.running()} == {FORMAT}


async def test_with_the_last_manager_upgraded_the_new_is_in_use_and_the_old_kept_out(mixed):
    await upgrade(mixed, "node-c")
    await propose(mixed, rename("luna"))
    await eventually(lambda: hostnames(mixed) == {"luna"})

    leader = await mixed.leader()
    await propose(mixed, Batch("", 0.0, (Create(manager("node-d", CODEC)),)))
    with pytest.raises(FailedPrecondition, match=f"node-d .* format {NEXT_FORMAT} is in use: upgrade it"):
        await Membership(leader.store, FixedClock()).join("node-d", "127.0.0.1:1", "127.0.0.1:2")
    assert leader.store.members().keys() == set(NAMES)


async def test_a_manager_put_back_to_the_older_release_stops_and_says_why(mixed):
    await upgrade(mixed, "node-c")
    await propose(mixed, rename("luna"))
    await eventually(lambda: hostnames(mixed) == {"luna"})
    older = mixed.member("node-c")
    await older.stop()
    older.codec = CODEC
    await older.start()
    failure = await older.store.failed()
    assert isinstance(failure, BadState)
    assert f"format {NEXT_FORMAT} was written by a newer release" in str(failure)
    await mixed.write("the others go on")

    await older.stop()
    older.codec = NEXT
    await older.start()
    await mixed.holds(older, ["the others go on"])


def test_what_the_next_release_writes_bears_the_oldest_format_that_has_it():
    assert decode_batch(NEXT.encode_batch(Batch("", 0.0, (ObserveNode("n"),)))).format == FORMAT
    with pytest.raises(BadState, match="newer release"):
        decode_batch(NEXT.encode_batch(rename("luna")))


async def test_a_snapshot_remembers_the_newest_format_in_the_log(mixed):
    await upgrade(mixed, "node-c")
    await propose(mixed, rename("luna"))
    view = (await mixed.leader()).store.view()
    chunks = list(NEXT.encode_view(view))
    assert NEXT.decode_view(chunks).format == NEXT_FORMAT
    with pytest.raises(BadState, match=r"a snapshot of format .* newer release"):
        CODEC.decode_view(chunks)
