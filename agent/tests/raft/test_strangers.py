# SPDX-License-Identifier: GPL-3.0-or-later
"""The Raft port opens to current members with a manager's certificate of this cluster, and to nobody else."""

import asyncio
import contextlib
import itertools
import ssl
import subprocess
import sys
import zlib

import pytest

from covey.store.raft.wire import Append, Frames, Hello, RequestVote, encode
from tests.raft.harness import Authority, create, eventually


async def speak(member, context, data):
    """Connect, say ``data``, and return what comes back before the other side hangs up."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", member.port, ssl=context, server_hostname=member.node_id if context else None
    )
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(100), 2)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def hello(raft_id):
    return encode(Hello("127.0.0.1:1", b"stranger", 0, raft_id))


def attack(raft_id):
    return hello(raft_id) + encode(RequestVote(1000, 1 << 40, 1000))


@pytest.fixture
async def member(calm):
    await calm.of(2)
    return calm.members["node-a"]


@pytest.fixture
def voter(calm, member):
    """The Raft id of the other one."""
    return calm.members["node-b"].store.raft_id


@pytest.fixture
def unharmed(cluster, member):
    """Checks that nothing said before had any effect."""
    count = itertools.count()

    async def check():
        assert (await cluster.leader()).store.leadership().term < 1000
        await cluster.write(f"still-works-{next(count)}")

    return check


async def test_a_member_is_greeted(cluster, member, voter, unharmed):
    context = cluster.authority.contexts("node-b").client()
    (greeting,) = Frames().feed(await speak(member, context, hello(voter)))
    assert isinstance(greeting, Hello)
    assert greeting.raft_id == member.store.raft_id
    await unharmed()


async def test_a_member_that_gives_itself_out_as_another_is_cut_off(cluster, member, unharmed):
    """The certificate is of node-b; it claims the Raft id of node-a, one of its own that is gone, and none."""
    context = cluster.authority.contexts("node-b").client()
    for raft_id in (member.store.raft_id, "node-b.0123456789abcdef", ""):
        await speak(member, context, attack(raft_id))
        await unharmed()


async def refused(member, context):
    before = member.store._engine._network.refusals
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert await speak(member, context, attack("node-b")) == b""
    await eventually(lambda: member.store._engine._network.refusals > before)


async def test_a_worker_is_refused(cluster, member, unharmed):
    await refused(member, cluster.authority.contexts("node-b", role="swarm-worker").client())
    await unharmed()


async def test_a_manager_of_another_cluster_is_refused(cluster, member, unharmed):
    await refused(member, cluster.authority.contexts("node-b", cluster="another0000000000000000000").client())
    await unharmed()


async def test_a_manager_that_is_no_member_is_refused(cluster, member, unharmed):
    await refused(member, cluster.authority.contexts("node-z").client())
    await unharmed()


async def test_a_certificate_of_another_authority_is_refused(tmp_path, cluster, member, unharmed):
    stranger = Authority(tmp_path, "other").contexts("node-b").client()
    stranger.verify_mode = ssl.CERT_NONE
    await refused(member, stranger)
    await unharmed()


async def test_no_certificate_is_refused(member, unharmed):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    await refused(member, context)
    await unharmed()


async def test_plain_tcp_is_refused(member, unharmed):
    await refused(member, None)
    await unharmed()


async def test_a_pickle_is_never_opened(tmp_path, cluster, member, unharmed):
    """The stock transport unpickles what it has decompressed, before it asks who is there."""
    marker = tmp_path / "owned"
    body = zlib.compress(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    stock = "import pickle, sys, zlib; pickle.loads(zlib.decompress(sys.stdin.buffer.read()))"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", stock], input=body, check=True)
    marker.unlink()
    context = cluster.authority.contexts("node-b").client()
    await speak(member, context, len(body).to_bytes(4, "little") + body)
    await unharmed()
    assert not marker.exists()


async def test_a_member_that_talks_before_it_greets_is_cut_off(cluster, member, unharmed):
    context = cluster.authority.contexts("node-b").client()
    await speak(member, context, encode(Append(1000, 0, 1, 1, 0, [])))
    await unharmed()


async def test_one_who_dials_the_wrong_node_hangs_up(calm):
    """A manager that finds another node at an address says nothing to it."""
    founder = await calm.found()
    await calm.leader()
    other = calm.member("node-c")
    from covey.store.raft import prepare_join

    prepare_join(other.directory, "node-c", founder.store.voters())
    await other.start()
    with pytest.raises(Exception, match="is node node-c, not node-b"):
        await founder.store.add_member("node-b", other.address, 5)
    await founder.store.propose(create("web"), 5)
