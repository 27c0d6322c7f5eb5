# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes follow the wish: managers get one, demoted and removed nodes lose theirs, the leader its own last."""

import asyncio
from dataclasses import replace

import pytest

from covey.manager.membership import Membership
from covey.model.changes import Batch, Create
from covey.model.errors import FailedPrecondition, Forbidden
from covey.model.objects import Node
from covey.model.spec import NodeSpec, Role
from covey.store.memory import MemoryStore


class FixedClock:
    def __init__(self) -> None:
        self._ids = 0

    def now(self) -> float:
        return 1000.0

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"

    def random(self) -> float:
        return 0.0

    def secret(self, size: int) -> bytes:
        return bytes(size)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore("leader")
    roles = {"leader": Role.MANAGER, "second": Role.MANAGER, "third": Role.WORKER}
    nodes = tuple(Create(Node(id=name, spec=NodeSpec(role=role), role=role)) for name, role in roles.items())
    await store.propose(Batch("", 1.0, nodes), 1)
    return store


async def test_a_manager_gets_its_vote_and_is_found_from_then_on(store):
    members = await Membership(store, FixedClock()).join("second", "10.0.0.2:2378", "10.0.0.2:2377")
    assert members["second"] == "10.0.0.2:2378"
    assert store.view().nodes["second"].manager_address == "10.0.0.2:2377"


async def test_a_worker_gets_no_vote(store):
    with pytest.raises(Forbidden, match="promote"):
        await Membership(store, FixedClock()).join("third", "10.0.0.3:2378", "10.0.0.3:2377")


async def test_a_manager_that_could_not_read_the_state_gets_no_vote(store):
    newer = MemoryStore("leader", view=replace(store.view(), format=2))
    with pytest.raises(FailedPrecondition, match=r"second .* reads format 1 .* format 2 is in use: upgrade it"):
        await Membership(newer, FixedClock()).join("second", "10.0.0.2:2378", "10.0.0.2:2377")
    assert newer.members().keys() == {"leader"}


async def test_leaving_takes_vote_and_address(store):
    membership = Membership(store, FixedClock())
    await membership.join("second", "10.0.0.2:2378", "10.0.0.2:2377")
    await membership.leave("second")
    assert "second" not in store.members()
    assert store.view().nodes["second"].manager_address == ""


async def test_an_address_that_a_stopped_leader_left_beside_a_vote_that_is_gone_goes(store):
    membership = Membership(store, FixedClock())
    await membership.join("second", "10.0.0.2:2378", "10.0.0.2:2377")
    await store.remove_member("second", 1)
    reconciling = asyncio.create_task(membership.reconcile())
    for _ in range(20):
        await asyncio.sleep(0)
    assert store.view().nodes["second"].manager_address == ""
    reconciling.cancel()
    await asyncio.wait({reconciling})


async def test_a_voter_is_never_said_to_be_none(store):
    """It gets its vote back while the end of the former one is still being written down."""
    membership, joined = Membership(store, FixedClock()), ("second", "10.0.0.2:2378", "10.0.0.2:2377")
    await membership.join(*joined)
    propose, joining = store.propose, []

    async def slow(batch, within):
        store.propose = propose
        joining.append(asyncio.create_task(membership.join(*joined)))
        for _ in range(20):
            await asyncio.sleep(0)
        return await propose(batch, within)

    store.propose = slow
    await membership.leave("second")
    await joining[0]
    assert "second" in store.members()
    assert store.view().nodes["second"].manager_address == "10.0.0.2:2377"


async def test_nor_is_one_that_has_its_vote_back_already(store):
    membership, joined = Membership(store, FixedClock()), ("second", "10.0.0.2:2378", "10.0.0.2:2377")
    await membership.join(*joined)
    remove = store.remove_member

    async def remove_and_take_in(node_id, within):
        await remove(node_id, within)
        await membership.join(*joined)

    store.remove_member = remove_and_take_in
    await membership.leave("second")
    assert store.view().nodes["second"].manager_address == "10.0.0.2:2377"


async def test_surplus_members_go_the_leader_last(store):
    await store.add_member("third", "10.0.0.3:2378", 1)
    await store.add_member("gone", "10.0.0.4:2378", 1)
    membership = Membership(store, FixedClock())
    assert membership.surplus() == ["gone", "third"]
    reconciling = asyncio.create_task(membership.reconcile())
    for _ in range(20):
        await asyncio.sleep(0)
    assert set(store.members()) == {"leader"}
    reconciling.cancel()
    await asyncio.wait({reconciling})
