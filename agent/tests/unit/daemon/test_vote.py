# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager gets its vote, says where it answers, and gives the vote up; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from covey.client.wire import RaftMembers
from covey.daemon.vote import FAREWELL, LOOK, Seat, Vote
from covey.manager.membership import Membership
from covey.model.changes import Batch, Create
from covey.model.errors import Forbidden, NotLeader, Unavailable
from covey.model.objects import Node
from covey.model.spec import NodeSpec, Role
from covey.store.memory import MemoryStore

SEAT = Seat("me", "10.0.0.1:2377", "10.0.0.1:2378")
OTHERS = ["10.0.0.2:2377", "10.0.0.3:2377"]


class Clock:
    def now(self) -> float:
        return 1.0

    def new_id(self) -> str:
        self.count = getattr(self, "count", 0) + 1
        return f"id{self.count}"


class Store(MemoryStore):
    """A store that knows whether it votes, of which the test says whether it leads."""

    superseded = 0

    @property
    def votes(self) -> bool:
        return "me" in self.members()

    def supersede(self, by: int) -> None:
        self.superseded = by


class Others:
    """The other managers, one of which may lead; what they do is done to the same store."""

    def __init__(self, store: Store) -> None:
        self.store, self.asked, self.silent = store, [], set()
        self.told = RaftMembers(members={})

    async def _lead(self, address: str) -> Membership:
        self.asked.append(address)
        if address in self.silent:
            raise Unavailable(f"{address} does not answer")
        was = self.store.leadership()
        if was.leading:
            raise NotLeader("me")
        self.store.elect()
        return Membership(self.store, Clock())

    async def raft_members(self, address: str) -> RaftMembers:
        self.asked.append(address)
        if address in self.silent:
            raise Unavailable(f"{address} does not answer")
        return self.told

    async def raft_join(self, address: str, own_address: str, raft_address: str):
        try:
            return await (await self._lead(address)).join("me", raft_address, own_address)
        finally:
            self.store.depose("other")

    async def raft_leave(self, address: str) -> None:
        membership = await self._lead(address)
        self.store._node_id = "other"
        try:
            await membership.leave("me")
        finally:
            self.store.depose("other")


async def world(*, role: Role = Role.MANAGER, address: str = "", node_id: str = "other") -> Store:
    """A store in which this manager is a node; ``node_id`` is that of the store's own member."""
    store = Store(node_id)
    me = Node(id="me", spec=NodeSpec(role=role), role=role, manager_address=address)
    await store.propose(Batch("", 1.0, (Create(me),)), 1)
    return store


def vote(store: Store, others: Others) -> Vote:
    return Vote(store, Membership(store, Clock()), others, SEAT, lambda: OTHERS)


async def test_a_manager_asks_the_others_until_it_votes():
    store = await world()
    store.depose("other")
    others = Others(store)
    others.silent = set(OTHERS)
    getting = asyncio.create_task(vote(store, others).get())
    await asyncio.sleep(3.5)
    assert others.asked == OTHERS * 4
    others.silent = {OTHERS[0]}
    await asyncio.wait_for(getting, 5)
    assert store.members()["me"] == SEAT.raft_address
    assert store.view().nodes["me"].manager_address == SEAT.address


async def test_one_that_has_its_vote_and_is_known_asks_nobody():
    store = await world(address=SEAT.address, node_id="me")
    store.depose("other")
    others = Others(store)
    await asyncio.wait_for(vote(store, others).get(), 1)
    assert others.asked == []


async def test_one_that_has_moved_says_so_though_it_has_its_vote():
    store = await world(address="192.0.2.1:2377", node_id="me")
    store.depose("other")
    await asyncio.wait_for(vote(store, Others(store)).get(), 5)
    assert store.view().nodes["me"].manager_address == SEAT.address


async def test_a_leader_that_has_moved_writes_it_itself():
    store = await world(address="192.0.2.1:2377", node_id="me")
    others = Others(store)
    await asyncio.wait_for(vote(store, others).get(), 5)
    assert store.view().nodes["me"].manager_address == SEAT.address
    assert others.asked == []


async def test_one_that_was_demoted_meanwhile_is_refused_and_goes_on_asking():
    store = await world(role=Role.WORKER)
    getting = asyncio.create_task(vote(store, Others(store)).get())
    await asyncio.sleep(3)
    assert not getting.done()
    with pytest.raises(Forbidden):
        await Membership(store, Clock()).join("me", "a:1", "b:1")
    getting.cancel()


async def lone(others_say: RaftMembers) -> tuple[Store, Others, asyncio.Task[None]]:
    """A manager that had its vote and hears of no leader any more."""
    store = await world(address=SEAT.address, node_id="me")
    others = Others(store)
    others.told = others_say
    return store, others, asyncio.create_task(vote(store, others).lost())


async def test_one_that_hears_of_no_leader_learns_that_its_vote_was_taken_away():
    store, others, losing = await lone(RaftMembers(members={}, votes=False))
    await asyncio.sleep(5 * LOOK)
    assert (others.asked, losing.done()) == ([], False), "it leads"
    others.silent = set(OTHERS)
    store.depose(None)
    await asyncio.sleep(5 * LOOK)
    assert (set(others.asked), losing.done()) == (set(OTHERS), False), "nobody says anything"
    others.silent = {OTHERS[0]}
    await asyncio.wait_for(losing, 2 * LOOK)


async def test_one_that_is_only_cut_off_keeps_its_vote():
    store, others, losing = await lone(RaftMembers(members={}))
    store.depose(None)
    await asyncio.sleep(5 * LOOK)
    assert (set(others.asked), losing.done(), store.superseded) == ({OTHERS[0]}, False, 0)
    losing.cancel()


@pytest.mark.parametrize("epoch", [7, -1], ids=["a later epoch", "an earlier epoch"])
async def test_what_the_managers_of_another_epoch_say_is_for_the_store_to_judge(epoch):
    store, _, losing = await lone(RaftMembers(members={}, epoch=epoch, votes=False))
    store.depose(None)
    await asyncio.sleep(2 * LOOK)
    assert (losing.done(), store.superseded) == (False, epoch)
    losing.cancel()


async def test_a_manager_that_leaves_gives_its_vote_up():
    store = await world()
    await Membership(store, Clock()).join("me", SEAT.raft_address, SEAT.address)
    store.depose("other")
    await vote(store, Others(store)).give_up()
    assert set(store.members()) == {"other"}
    assert store.view().nodes["me"].manager_address == ""


async def test_a_leader_that_leaves_hands_over_first():
    store = await world(address=SEAT.address, node_id="me")
    await store.add_member("other", "10.0.0.2:2378", 1)
    await vote(store, Others(store)).give_up()
    assert set(store.members()) == {"other"}


async def test_the_last_manager_asks_nobody():
    store = await world(address=SEAT.address, node_id="me")
    others = Others(store)
    await vote(store, others).give_up()
    assert others.asked == []
    assert store.leadership().leading


async def test_leaving_waits_for_nobody_for_long(caplog):
    store = await world()
    await Membership(store, Clock()).join("me", SEAT.raft_address, SEAT.address)
    store.depose("other")
    others = Others(store)

    async def hang(address: str) -> None:
        await asyncio.sleep(1000)

    others.raft_leave = hang
    began = asyncio.get_running_loop().time()
    await vote(store, others).give_up()
    assert asyncio.get_running_loop().time() - began == pytest.approx(FAREWELL, abs=0.2)
    assert "still count on its vote: no answer in time" in caplog.text
