# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers in a cluster of real managers, used through all of them while its leaders are stopped and killed: what the
clients saw could have happened one operation after the other.
"""

import asyncio
import itertools
import random  # noqa: TID251 - seeded clients

import msgspec
import pytest

from covey.model.changes import Batch, Create, ObserveNode, Update
from covey.model.errors import Conflict, NotLeader, Unavailable
from covey.model.objects import Node, NodeStatus
from covey.model.spec import NodeSpec
from tests.raft.harness import eventually
from tests.raft.wgl import NEVER, Operation, linearizable

REGISTERS = 3
CLIENTS = 6
OPERATIONS = 40
PATIENCE = 6.0


def observed(view, register):
    """The register that writers set without looking: what is observed of a node."""
    return view.nodes[register].status.message


def declared(view, register):
    """The register that writers swap: what is declared for a node."""
    return view.nodes[register].spec.name or ""


class Client:
    """Uses the cluster through whichever manager it meets, and notes what it saw."""

    def __init__(self, cluster, dice, numbers):
        self.cluster, self.dice, self.numbers = cluster, dice, numbers
        self.histories = {}

    async def live(self):
        for _ in range(OPERATIONS):
            register = f"register-{self.dice.randrange(REGISTERS)}"
            await self.dice.choice((self.read, self.read, self.write, self.swap))(register)

    def note(self, which, register, *operation):
        self.histories.setdefault((which, register), []).append(Operation(*operation))

    def now(self):
        return asyncio.get_running_loop().time()

    async def anywhere(self, ask):
        """The answer of the first manager that has one, repeating as a client does; None if there is none in time."""
        end, leader = self.now() + PATIENCE, None
        while self.now() < end:
            running = self.cluster.running()
            member = self.cluster.members.get(leader) if leader else None
            member = member if member in running else self.dice.choice(running) if running else None
            leader = None
            try:
                if member is not None:
                    return await ask(member.store)
            except NotLeader as refusal:
                leader = refusal.leader
            except Unavailable:
                pass
            await asyncio.sleep(0.05)
        return None

    async def read(self, register):
        call = self.now()
        view = await self.anywhere(lambda store: store.barrier(1))
        if view is None:
            return
        for which, value in (("observed", observed(view, register)), ("declared", declared(view, register))):
            self.note(which, register, call, self.now(), "read", None, None, value)

    async def propose(self, change):
        """True or False once the store says so, None if nobody knows."""
        number = next(self.numbers)
        batch = Batch(request_id=f"request-{number}", at=1.0, changes=(change,))

        async def ask(store):
            try:
                await store.propose(batch, 1)
            except Conflict:
                return False
            return True

        return await self.anywhere(ask)

    async def write(self, register):
        call, value = self.now(), str(next(self.numbers))
        done = await self.propose(ObserveNode(register, status=NodeStatus(message=value)))
        self.note("observed", register, call, NEVER if done is None else self.now(), "write", value)

    async def swap(self, register):
        """From what a manager showed, however old that is."""
        running = self.cluster.running()
        if not running:
            return
        node = self.dice.choice(running).store.view().nodes.get(register)
        if node is None:
            return
        call, expected, value = self.now(), node.spec.name or "", str(next(self.numbers))
        fresh = msgspec.structs.replace(node, spec=NodeSpec(name=value))
        done = await self.propose(Update(fresh))
        ended = NEVER if done is None else self.now()
        self.note("declared", register, call, ended, "cas", value, expected, done)


async def trouble(cluster, dice, busy):
    """Stop or kill the leader, or somebody else, again and again."""
    while not busy.done():
        await asyncio.sleep(0.2 + dice.random() * 0.6)
        leader = await cluster.leader()
        victim = leader if dice.random() < 0.7 else dice.choice(cluster.running())
        await (victim.crash() if dice.random() < 0.5 else victim.stop())
        await asyncio.sleep(dice.random() * 0.5)
        await victim.start()


def gather(clients):
    histories = {}
    for client in clients:
        for register, history in client.histories.items():
            histories.setdefault(register, []).extend(history)
    return histories


@pytest.mark.parametrize("seed", range(2))
async def test_what_clients_see_is_one_register_while_leaders_come_and_go(cluster, seed):
    await cluster.of(3)
    leader = await cluster.leader()
    for number in range(REGISTERS):
        node = Node(id=f"register-{number}")
        await leader.store.propose(Batch(request_id=node.id, at=1.0, changes=(Create(node),)), 5)
    await eventually(lambda: all(len(member.store.view().nodes) == REGISTERS for member in cluster.running()))
    numbers = itertools.count(1)
    clients = [Client(cluster, random.Random(f"{seed} {number}"), numbers) for number in range(CLIENTS)]
    busy = asyncio.gather(*(client.live() for client in clients))
    await trouble(cluster, random.Random(seed), busy)
    await busy
    histories = gather(clients)
    seen = [operation for history in histories.values() for operation in history]
    assert len(histories) == 2 * REGISTERS
    assert sum(operation.done != NEVER for operation in seen) > len(seen) / 2
    assert {(operation.kind, operation.result) for operation in seen if operation.kind == "cas"} >= {("cas", True)}
    for register, history in histories.items():
        assert linearizable(history, ""), f"{register}: {sorted(history, key=lambda operation: operation.call)}"
