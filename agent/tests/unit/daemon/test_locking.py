# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager whose disk is locked: its own life and store, without worker and servers."""

import asyncio
import shutil
import socket

import msgspec
import pytest

from covey.api.bodies import InitRequest, RecoverRequest
from covey.api.ports import LocalState
from covey.control.cluster import with_unlock_key
from covey.daemon.clock import SystemClock
from covey.daemon.config import Config
from covey.daemon.life import Life
from covey.daemon.locking import DiskLock
from covey.daemon.places import Places
from covey.daemon.raft import open_store
from covey.model.changes import Batch, Update
from covey.model.errors import AlreadyInCluster, Conflict, Locked, NotInCluster, WrongUnlockKey
from covey.model.secret import Secret
from covey.model.spec import ClusterSpec, EncryptionConfig
from covey.security import identity
from covey.store.raft import lock_version

CLOCK = SystemClock()
WRONG = Secret(b"w" * 32)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class StoreMember:
    """The store of a manager and the lock of its disk; nothing else of it."""

    settled, superseded, trouble, refusal = True, "", "", ""

    def __init__(self, world, who, settings):
        self.world, self.who, self.settings = world, who, settings
        self.store, self.following, self.renewals = None, None, 0

    def renewal_wanted(self):
        self.renewals += 1

    def managing(self):
        return None

    def managers(self):
        return ()

    async def start(self):
        if self.world.trouble:
            raise self.world.trouble
        places = self.world.places
        self.store = open_store(
            self.who, places.raft, self.settings.advertise, self.world.config.raft_listen_addr, lambda: self.who,
            places.lock.unlock_key,
        )  # fmt: skip
        await self.store.start()
        self.following = asyncio.create_task(
            DiskLock(self.store, places, lambda: self.who, self.renewal_wanted).follow()
        )

    async def wait_settled(self):
        while not self.store.leadership().leading:
            await self.store.changed().wait()
            await asyncio.sleep(0)

    async def stop(self):
        if self.following is not None:
            self.following.cancel()
            await asyncio.wait([self.following])
        if self.store is not None:
            await self.store.stop()


class World:
    """One host; ``life`` is that of a process that was just started."""

    def __init__(self, path):
        self.config = Config(
            state_dir=path,
            listen_addr=f"127.0.0.1:{free_port()}",
            raft_listen_addr=f"127.0.0.1:{free_port()}",
            advertise_addr="127.0.0.1",
        )
        self.places, self.member, self.trouble, self.cleared = Places(path), None, None, []

    def _make(self, who, settings):
        self.member = StoreMember(self, who, settings)
        return self.member

    async def _nothing(self, *who):
        self.cleared += who

    async def start(self):
        self.places = Places(self.config.state_dir)
        self.life = Life(
            self.config, self.places, CLOCK,
            hostname="here", preflight=self._nothing, outside=None, make_member=self._make, clear=self._nothing,
        )  # fmt: skip
        await self.life.start()
        return self.life

    async def restart(self):
        await self.life.stop()
        return await self.start()

    @property
    def state(self):
        return self.life.status().state

    @property
    def key(self):
        return self.member.store.view().cluster.unlock_key

    async def write(self, *, lock, rotate=False):
        """What ``docker swarm update`` writes; returns once the disk is as it says."""
        await self.member.wait_settled()
        store = self.member.store
        spec = ClusterSpec(encryption_config=EncryptionConfig(auto_lock_managers=True) if lock else None)
        cluster = msgspec.structs.replace(store.view().cluster, spec=spec)
        cluster = with_unlock_key(cluster, Secret(CLOCK.secret(32)), rotate=rotate)
        await store.propose(Batch(CLOCK.new_id(), CLOCK.now(), (Update(cluster),)), 5.0)
        await self.follows(cluster)
        return cluster.unlock_key

    async def follows(self, cluster):
        async with asyncio.timeout(10):
            wanted = cluster.unlock_key or None
            while self.places.lock.unlock_key != wanted or self.is_sealed != bool(wanted):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    @property
    def is_sealed(self):
        """The key of the identity, and the Raft directory, both or neither but for a moment."""
        try:
            identity.load(self.places.cluster / "identity")
        except Locked:
            return True
        return False

    def content(self):
        return {path: path.read_bytes() for path in self.places.cluster.rglob("*") if path.is_file()}


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path / "state")
    await world.start()
    yield world
    await world.life.stop()


@pytest.fixture
async def manager(world):
    await world.life.init(InitRequest(listen_addr=world.config.listen_addr))
    return world


async def test_founded_locked_it_starts_locked(world):
    spec = ClusterSpec(encryption_config=EncryptionConfig(auto_lock_managers=True))
    node_id = await world.life.init(InitRequest(listen_addr=world.config.listen_addr, spec=spec))
    await world.member.wait_settled()
    key = world.key
    assert len(key.reveal()) == 32
    await world.follows(world.member.store.view().cluster)
    life = await world.restart()
    assert (life.status().state, life.status().node_id) == (LocalState.LOCKED, node_id)
    assert life.managing() is None
    await life.unlock(key)
    assert life.status().state is LocalState.ACTIVE


async def test_a_wrong_key_changes_nothing_and_the_right_one_goes_on(manager):
    key = await manager.write(lock=True)
    index = manager.member.store.view().index
    await manager.restart()
    before = manager.content()
    with pytest.raises(WrongUnlockKey):
        await manager.life.unlock(WRONG)
    assert (manager.state, manager.content()) == (LocalState.LOCKED, before)
    await manager.life.unlock(key)
    await manager.member.wait_settled()
    assert manager.member.store.view().index >= index
    with pytest.raises(Conflict, match="swarm is not locked"):
        await manager.life.unlock(key)


async def test_nothing_on_a_locked_disk_opens_it(manager):
    key = await manager.write(lock=True)
    secrets = [key, manager.places.lock.guard, manager.member.who.key, manager.member.store.view().cluster.root_key]
    await manager.life.stop()
    data = b"".join(manager.content().values())
    for secret in secrets:
        lines = [line for line in secret.reveal().splitlines() if not line.startswith(b"-----")]
        assert not any(line in data for line in lines if len(line) > 16)
    assert not (manager.places.raft / "kek").exists()


async def test_a_rotated_key_takes_over_and_the_old_one_opens_nothing(manager):
    old = await manager.write(lock=True)
    new = await manager.write(lock=True, rotate=True)
    assert manager.member.renewals == 1, "the TLS key that lay open once is to be replaced, once"
    assert lock_version(manager.places.raft) == 2
    await manager.restart()
    with pytest.raises(WrongUnlockKey, match="number 2"):
        await manager.life.unlock(old)
    await manager.life.unlock(new)
    assert manager.state is LocalState.ACTIVE


async def test_without_the_lock_it_starts_by_itself_again(manager):
    await manager.write(lock=True)
    await manager.write(lock=False)
    assert not manager.is_sealed
    await manager.restart()
    assert manager.state is LocalState.ACTIVE
    with pytest.raises(Conflict, match="not locked"):
        await manager.life.unlock(WRONG)


async def test_a_key_rotated_while_it_was_down_is_taken_over_after_the_old_one_opened_it(manager, tmp_path):
    """The others rotated: its own disk still takes the key it was locked with, then follows the cluster's."""
    first = await manager.write(lock=True)
    await manager.life.stop()
    shutil.copytree(manager.places.raft, tmp_path / "raft")
    await manager.start()
    await manager.life.unlock(first)
    second = await manager.write(lock=True, rotate=True)
    await manager.life.stop()
    shutil.copy(tmp_path / "raft" / "dek", manager.places.raft / "dek")  # as if it had missed the rotation
    await manager.start()
    with pytest.raises(WrongUnlockKey, match="number 1 of its cluster: a newer one, made while it was down"):
        await manager.life.unlock(second)
    await manager.life.unlock(first)
    await manager.member.wait_settled()
    await manager.follows(manager.member.store.view().cluster)
    assert lock_version(manager.places.raft) == 2


async def test_a_crash_between_the_two_files_is_put_right_by_unlocking(manager):
    """The Raft directory was locked, the identity not sealed yet: it starts locked all the same."""
    plain = (manager.places.cluster / "identity" / "identity.json").read_bytes()
    key = await manager.write(lock=True)
    await manager.life.stop()
    (manager.places.cluster / "identity" / "identity.json").write_bytes(plain)
    await manager.start()
    assert manager.state is LocalState.LOCKED
    await manager.life.unlock(key)
    assert manager.is_sealed


async def test_a_start_that_fails_leaves_it_locked_and_can_be_tried_again(manager):
    key = await manager.write(lock=True)
    await manager.restart()
    manager.trouble = OSError("the port is taken")
    with pytest.raises(OSError, match="taken"):
        await manager.life.unlock(key)
    assert manager.state is LocalState.LOCKED
    manager.trouble = None
    await manager.life.unlock(key)
    assert manager.state is LocalState.ACTIVE


async def test_recovering_a_locked_manager_leaves_it_locked_with_the_same_key(manager):
    key = await manager.write(lock=True)
    await manager.restart()
    with pytest.raises(Locked):
        await manager.life.recover(RecoverRequest())
    await manager.life.unlock(key)
    guard = manager.places.lock.guard
    await manager.life.recover(RecoverRequest())
    assert (lock_version(manager.places.raft), manager.places.lock.guard) == (1, guard)
    assert not (manager.places.raft / "kek").exists()
    await manager.restart()
    assert manager.state is LocalState.LOCKED
    await manager.life.unlock(key)
    await manager.member.wait_settled()
    assert manager.member.store.view().cluster.epoch > 0


async def test_a_locked_node_is_in_a_cluster_and_can_leave_it(manager):
    node_id, cluster_id = manager.life.status().node_id, manager.life.status().cluster_id
    key = await manager.write(lock=True)
    await manager.restart()
    manager.cleared.clear()
    with pytest.raises(AlreadyInCluster, match=node_id):
        await manager.life.init(InitRequest())
    await manager.life.leave(force=True)
    assert manager.cleared == [node_id, cluster_id]
    assert (manager.state, list(manager.config.state_dir.iterdir())) == (LocalState.INACTIVE, [])
    with pytest.raises(NotInCluster):
        await manager.life.unlock(key)
    await manager.life.init(InitRequest(listen_addr=manager.config.listen_addr))
    assert manager.state is LocalState.ACTIVE
