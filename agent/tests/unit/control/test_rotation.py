# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole rotation of the root in virtual time: all that a leader runs, and nodes that renew when told."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from authority import own_issuer

from covey.control.authority import issuing, tls_of
from covey.control.cluster import Founder, TokenSecrets, first_objects, join_token, with_tokens
from covey.control.dispatcher import Dispatcher
from covey.control.loop import ControlLoop
from covey.control.signer import Signer, Wishes
from covey.model.changes import Batch, Change, Delete, Update
from covey.model.errors import InvalidArgument
from covey.model.ids import to_id
from covey.model.objects import NodeDescription
from covey.model.secret import Secret
from covey.model.session import CertificateWanted, Describe, Heartbeat, Hello, RootChanged
from covey.model.spec import ClusterSpec, Role
from covey.plan.pipeline import settle
from covey.plan.rotation import BATCH, INTERVAL, unmoved
from covey.security import ca, keys
from covey.security.certificate import read_certificates
from covey.security.identity import Identity, assemble
from covey.store.memory import MemoryStore

CLUSTER = to_id(1)
SECRETS = TokenSecrets(Secret(b"w" * 16), Secret(b"m" * 16))
NEXT = TokenSecrets(Secret(b"x" * 16), Secret(b"y" * 16))
KEYS = [keys.new_key() for _ in range(4)]


class Node:
    """A node that renews and trusts as it is told; also its own channel, whose other end is the dispatcher."""

    address = "192.0.2.1"

    def __init__(self, world: World, who: Identity) -> None:
        self.world, self.who = world, who
        self.asked: list[float] = []
        self.dropped: list[bytes] = []
        self._up: asyncio.Queue = asyncio.Queue()
        self._tasks: list[asyncio.Task] = []
        self.plug_in()

    def plug_in(self) -> None:
        self._up.put_nowait(Hello(description=NodeDescription(hostname=self.who.node_id, tls=tls_of(self.who))))
        self._tasks = [
            asyncio.create_task(self.world.dispatcher.serve(self.who.node_id, self)),
            asyncio.create_task(self._beat()),
        ]

    async def plug_out(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._up = asyncio.Queue()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(2)
            self._up.put_nowait(Heartbeat())

    async def send(self, message) -> None:
        if isinstance(message, CertificateWanted):
            self.asked.append(self.world.clock.now())
            key = KEYS[len(self.asked) % len(KEYS)]
            admission = await self.world.signer.renew(self.who.node_id, keys.make_csr(key))
            self.become(assemble(admission.certificate.encode(), key, admission.root_ca.encode()))
        elif isinstance(message, RootChanged):
            self.dropped.append(message.root)
            self.become(assemble(self.who.certificate, self.who.key, message.root))

    def become(self, who: Identity) -> None:
        self.who = who
        description = NodeDescription(hostname=who.node_id, tls=tls_of(who))
        self._up.put_nowait(Describe(description=description))

    async def receive(self):
        return await self._up.get()

    async def close(self) -> None:
        pass


class World:
    """One manager's control with many nodes; ``fail_over`` puts another in its place."""

    def __init__(self, store: MemoryStore, clock) -> None:
        self.store, self.clock = store, clock
        self.nodes: list[Node] = []
        self._lead()

    def _lead(self) -> None:
        self.issuer = own_issuer(self.clock)
        self.dispatcher, self.signer = Dispatcher(self.store, self.clock), Signer(self.store, self.clock, self.issuer)
        loop = ControlLoop(self.store, settle, self.dispatcher.heard, self.clock)
        self._tasks = [
            asyncio.create_task(self.dispatcher.run()),
            asyncio.create_task(loop.run(self.store.leadership().term)),
        ]

    async def fail_over(self) -> None:
        for node in self.nodes:
            await node.plug_out()
        await self.stop()
        self.store.elect()
        self._lead()
        for node in self.nodes:
            node.plug_in()

    async def write(self, *changes: Change) -> None:
        await self.store.propose(Batch("", self.clock.now(), changes), 1)

    @property
    def cluster(self):
        return self.store.view().cluster

    async def join(self, count: int) -> None:
        for number in range(count):
            key = KEYS[number % len(KEYS)]
            admission = await self.signer.admit(keys.make_csr(keys.new_key()), Wishes(role=Role.WORKER))
            admission = await self.signer.renew(admission.node_id, keys.make_csr(key))
            who = assemble(admission.certificate.encode(), key, admission.root_ca.encode())
            self.nodes.append(Node(self, who))
        await asyncio.sleep(1)

    async def rotate(self) -> ca.RootCA:
        root = ca.create_root(self.clock.now())
        await self.rotate_to(root)
        return root

    async def rotate_to(self, root: ca.RootCA) -> None:
        await self.write(Update(await self.issuer.begin_rotation(self.cluster, root, NEXT)))

    async def stop(self) -> None:
        for node in self.nodes:
            await node.plug_out()
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@pytest.fixture
async def world(store, clock):
    root = ca.create_root(clock.now())
    founder = Founder(to_id(2), "h1", "a:2377")
    cluster, _manager = first_objects(CLUSTER, root, SECRETS, ClusterSpec(), founder)
    await store.propose(Batch("", clock.now(), (cluster,)), 1)
    world = World(store, clock)
    yield world
    await world.stop()


async def test_all_move_in_batches_and_only_then_the_old_root_and_the_old_tokens_go(world):
    await world.join(2 * BATCH + 3)
    old, tokens = world.cluster.root_certificate, (world.cluster.worker_token, world.cluster.manager_token)
    new = await world.rotate()
    began = world.clock.now()
    await asyncio.sleep(INTERVAL)
    assert world.cluster.root_certificate == old
    assert (world.cluster.worker_token, world.cluster.manager_token) == tokens
    await asyncio.sleep(2 * INTERVAL)
    batches = Counter(round((node.asked[0] - began) / INTERVAL) for node in world.nodes)
    assert batches == {0: BATCH, 1: BATCH, 2: 3}
    assert all(len(node.asked) == 1 for node in world.nodes)
    assert (world.cluster.root_certificate, world.cluster.rotation) == (new.cert_pem, None)
    assert join_token(world.cluster, Role.WORKER).split("-")[2] == ca.root_digest(new.cert_pem)
    await asyncio.sleep(1)
    assert all(node.dropped == [new.cert_pem] for node in world.nodes)
    assert all(node.who.root == new.cert_pem for node in world.nodes)


async def test_a_node_that_is_down_holds_it_up_until_it_is_back(world):
    await world.join(3)
    away = world.nodes[1]
    await away.plug_out()
    await asyncio.sleep(10)
    new = await world.rotate()
    await asyncio.sleep(60)
    assert [node.id for node in unmoved(world.store.view(), world.cluster.rotation)] == [away.who.node_id]
    away.plug_in()
    await asyncio.sleep(2 * INTERVAL)
    assert world.cluster.root_certificate == new.cert_pem
    assert away.who.root == new.cert_pem


async def test_to_remove_what_is_down_lets_it_finish(world):
    await world.join(3)
    away = world.nodes.pop(1)
    await away.plug_out()
    await asyncio.sleep(10)
    new = await world.rotate()
    await asyncio.sleep(60)
    node = world.store.view().nodes[away.who.node_id]
    await world.write(Delete("node", node.id, node.version))
    await asyncio.sleep(1)
    assert world.cluster.root_certificate == new.cert_pem


async def test_one_that_went_away_after_it_moved_still_knows_its_managers(world):
    await world.join(BATCH + 2)
    await world.rotate()
    await asyncio.sleep(1)
    away = next(node for node in world.nodes if node.asked)
    await away.plug_out()
    await asyncio.sleep(20)
    assert world.cluster.rotation is None
    assert world.cluster.root_certificate in away.who.root
    away.plug_in()
    await asyncio.sleep(1)
    assert away.who.root == world.cluster.root_certificate


async def test_a_new_leader_goes_on_where_the_old_one_was(world):
    await world.join(2 * BATCH)
    new = await world.rotate()
    await asyncio.sleep(INTERVAL / 2)
    asked = [node for node in world.nodes if node.asked]
    assert len(asked) == BATCH
    await world.fail_over()
    await asyncio.sleep(3 * INTERVAL)
    assert all(len(node.asked) == 1 for node in world.nodes)
    assert world.cluster.root_certificate == new.cert_pem


async def test_a_second_wish_takes_the_place_of_the_first(world):
    await world.join(3)
    await world.nodes[2].plug_out()
    await asyncio.sleep(10)
    await world.rotate()
    await asyncio.sleep(INTERVAL)
    assert [len(node.asked) for node in world.nodes] == [1, 1, 0]
    final = await world.rotate()
    await asyncio.sleep(INTERVAL + 1)
    assert [len(node.asked) for node in world.nodes] == [2, 2, 0]
    world.nodes[2].plug_in()
    await asyncio.sleep(2 * INTERVAL)
    assert [len(node.asked) for node in world.nodes] == [2, 2, 1]
    assert all(node.who.root == world.cluster.root_certificate == final.cert_pem for node in world.nodes)


async def test_back_to_the_old_root_is_a_rotation_like_any_other(world):
    await world.join(2)
    await world.nodes[1].plug_out()
    await asyncio.sleep(10)
    old = ca.RootCA(world.cluster.root_certificate, world.cluster.root_key)
    await world.rotate()
    await asyncio.sleep(INTERVAL)
    await world.rotate_to(old)
    await asyncio.sleep(2 * INTERVAL)
    world.nodes[1].plug_in()
    await asyncio.sleep(INTERVAL)
    assert world.cluster.rotation is None
    assert all(node.who.root == old.cert_pem for node in world.nodes)
    assert [len(node.asked) for node in world.nodes] == [2, 0]


async def test_who_joins_in_the_middle_has_moved_already(world):
    await world.join(1)
    away = world.nodes[0]
    await away.plug_out()
    await asyncio.sleep(10)
    new = await world.rotate()
    token = join_token(world.cluster, Role.WORKER)
    admission = await world.signer.join(keys.make_csr(KEYS[0]), token, Wishes(role=Role.WORKER), "a")
    who = assemble(admission.certificate.encode(), KEYS[0], admission.root_ca.encode())
    assert who.root == issuing(world.cluster).trusted == world.cluster.root_certificate + new.cert_pem
    assert len(read_certificates(who.certificate)) == 2
    world.nodes.append(Node(world, who))
    await asyncio.sleep(INTERVAL)
    assert world.nodes[1].asked == []
    waiting = unmoved(world.store.view(), world.cluster.rotation)
    assert [node.id for node in waiting] == [away.who.node_id]


async def test_tokens_rotated_in_the_middle_are_new_before_and_after(world):
    await world.join(1)
    await world.nodes[0].plug_out()
    await asyncio.sleep(10)
    new = await world.rotate()
    await world.write(Update(with_tokens(world.cluster, TokenSecrets(worker=Secret(b"z" * 16)))))
    during = join_token(world.cluster, Role.WORKER).split("-")
    world.nodes[0].plug_in()
    await asyncio.sleep(2 * INTERVAL)
    after = join_token(world.cluster, Role.WORKER).split("-")
    assert during[3] == after[3]
    assert after[2] == ca.root_digest(new.cert_pem) != during[2]
    assert join_token(world.cluster, Role.MANAGER).split("-")[3] != join_token(world.cluster, Role.WORKER).split("-")[3]


async def test_a_root_that_nodes_could_not_trust_on_the_way_changes_nothing(world):
    stranger = ca.create_root(world.clock.now())
    mixed = ca.RootCA(stranger.cert_pem, ca.create_root(world.clock.now()).key_pem)
    before = world.cluster
    with pytest.raises(InvalidArgument):
        await world.rotate_to(mixed)
    assert world.cluster == before
