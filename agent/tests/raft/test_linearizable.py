# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers in a cluster of managers that are processes, used through all of them while the leader stands still, is
killed or cut off: what the clients saw could have happened one operation after the other.

And would it be noticed if not?  Two schedules say so, each with the safeguard it is about and without.
"""

import asyncio
import contextlib
import itertools
import random  # noqa: TID251 - seeded clients and faults

import pytest

from covey.model.changes import Batch, Create, ObserveNode, Update
from covey.model.errors import Conflict, NotLeader, Unavailable
from covey.model.objects import Node, NodeStatus
from covey.model.spec import NodeSpec
from covey.state.codec import encode_batch
from tests.raft.harness import eventually
from tests.raft.processes import PATIENT, STUBBORN, Managers, running
from tests.raft.wgl import NEVER, Operation, linearizable

#: Set without looking: what is observed of a node.
WRITTEN = ("written-0", "written-1")
#: Set if nobody else did: what is declared for a node.
SWAPPED = ("swapped-0", "swapped-1")
CLIENTS = 6
#: Seconds that a manager gets for an answer, and that a client goes on asking.
TRY, PATIENCE = 1.0, 15.0


class Client:
    """Uses the cluster, and notes what it saw in ``histories``, by register."""

    def __init__(self, managers, histories, numbers, dice):
        self.managers, self.histories, self.numbers, self.dice = managers, histories, numbers, dice
        self.tries, self.versions, self.favourite = 0, {}, None

    def note(self, register, *operation):
        self.histories.setdefault(register, []).append(Operation(*operation))

    def now(self):
        return asyncio.get_running_loop().time()

    async def once(self, manager, name, *arguments):
        """One manager's answer, None if it has none; True for what is done, False for what is refused for good."""
        self.tries += 1
        try:
            value = await manager.ask(name, *arguments, TRY, timeout=TRY)
        except (NotLeader, Unavailable):
            self.favourite = None
            return None
        except Conflict:
            return False
        self.favourite = manager
        return value if name == "read" else True

    async def anywhere(self, among, name, *arguments):
        """The first answer of any of them, repeating as a client does; None if there is none in time."""
        end = self.now() + PATIENCE
        while self.now() < end:
            manager = self.favourite if self.favourite in among else self.dice.choice(among)
            answer = await self.once(manager, name, *arguments)
            if answer is not None:
                return answer
            await asyncio.sleep(0.02)
        return None

    def batch(self, change):
        return encode_batch(Batch(request_id=f"request-{next(self.numbers)}", at=1.0, changes=(change,))).hex()

    async def create(self):
        for register in WRITTEN + SWAPPED:
            assert await self.anywhere(self.managers.all, "propose", self.batch(Create(Node(id=register))))

    # -- operations

    async def read(self, asking):
        """All registers; the values, None if there was no answer."""
        call = self.now()
        seen = await asking
        for register in WRITTEN + SWAPPED if seen else ():
            observed, declared, version = seen[register]
            value = observed if register in WRITTEN else declared
            self.versions[register] = value, version
            self.note(register, call, self.now(), "read", None, None, value)
        return seen and {register: value for register, (value, _) in self.versions.items()}

    def fresh(self, register):
        """A value nobody else writes, and how to write it."""
        value = str(next(self.numbers))
        return value, self.batch(ObserveNode(register, status=NodeStatus(message=value)))

    async def write(self, register, among):
        call, (value, batch) = self.now(), self.fresh(register)
        done = await self.anywhere(among, "propose", batch)
        self.note(register, call, NEVER if done is None else self.now(), "write", value)
        return value if done else None

    async def swap(self, register, among):
        """From what it last saw, however old that is."""
        if register not in self.versions:
            return
        call, value, (expected, version) = self.now(), str(next(self.numbers)), self.versions[register]
        batch = self.batch(Update(Node(id=register, version=version, spec=NodeSpec(name=value))))
        done = await self.anywhere(among, "propose", batch)
        self.note(register, call, NEVER if done is None else self.now(), "cas", value, expected, done)


def judge(histories):
    """The registers whose history no order explains."""
    return [register for register, history in histories.items() if not linearizable(history, "")]


# -- would it be noticed?


async def read_at_a_deposed_leader(managers, client):
    """It is cut off, believes to lead, and is asked after its successor was written to."""
    old = await managers.leader(managers.all)
    assert await client.write(WRITTEN[0], [old])
    managers.cut(*managers.speaking(old), *managers.hearing(old))
    assert await client.write(WRITTEN[0], managers.others(old))
    for _ in range(2):
        await client.read(client.once(old, "read"))


async def repeat_a_write_whose_answer_was_lost(managers, client):
    """It took effect, its leader died, and its value was overwritten when its client asks again."""
    old = await managers.leader(managers.all)
    others, call, (value, batch) = managers.others(old), client.now(), client.fresh(WRITTEN[0])
    old.tell("propose", batch, TRY).cancel()
    while (await client.read(client.anywhere([old], "read")))[WRITTEN[0]] != value:
        pass
    await old.kill()
    assert await client.write(WRITTEN[0], others)
    assert await client.read(client.anywhere(others, "read"))
    assert await client.anywhere(others, "propose", batch)
    client.note(WRITTEN[0], call, client.now(), "write", value)
    assert await client.read(client.anywhere(others, "read"))


#: Not among them: that a new leader is asked only once it has applied the first entry of its term.  The moment before
#: that is shorter than the way of a question, so whether it is hit is chance here; the simulation hits it.
SCHEDULES = {
    "barrier": read_at_a_deposed_leader,
    "request-ids": repeat_a_write_whose_answer_was_lost,
}


@pytest.mark.parametrize("without", [False, True], ids=["with", "without"])
@pytest.mark.parametrize("safeguard", SCHEDULES)
async def test_clients_see_more_than_one_register_only_without_the_safeguard(tmp_path, authority, safeguard, without):
    async with running(tmp_path, authority, PATIENT, safeguard if without else "") as managers:
        histories = {}
        client = Client(managers, histories, itertools.count(1), random.Random(0))
        await client.create()
        await SCHEDULES[safeguard](managers, client)
    assert judge(histories) == ([WRITTEN[0]] if without else []), histories


# -- by seed


@contextlib.asynccontextmanager
async def paused(managers, leader):
    leader.pause()
    yield managers.others(leader)
    leader.resume()


@contextlib.asynccontextmanager
async def killed(managers, leader):
    await leader.kill()
    yield managers.others(leader)
    await leader.start()


def cut(ways, *, deposes=True):
    """Have what is said on ``ways(managers, leader)`` wait; ``deposes`` says whether somebody else leads then."""

    @contextlib.asynccontextmanager
    async def fault(managers, leader):
        managers.cut(*ways(managers, leader))
        yield managers.others(leader) if deposes else []
        managers.mend(*ways(managers, leader))

    return fault


def both_ways(managers, leader):
    return managers.speaking(leader) + managers.hearing(leader)


def both_ways_to_one(managers, leader):
    return managers.speaking(leader)[:1] + managers.hearing(leader)[:1]


#: Each gives those of whom one leads meanwhile, if the leader in trouble does not go on.
FAULTS = {
    "paused": paused,
    "killed": killed,
    "cut off": cut(both_ways),
    "not heard": cut(Managers.speaking),
    "deaf": cut(Managers.hearing, deposes=False),
    "parted from one": cut(both_ways_to_one, deposes=False),
}


async def live(client, busy):
    """Read, write and swap; reads go to the manager in trouble as well, which may have led without knowing better."""
    managers, dice = client.managers, client.dice
    while busy():
        among = managers.all
        match dice.choice(("read", "read", "read there", "write", "swap")):
            case "read":
                await client.read(client.anywhere(among, "read"))
            case "read there":
                await client.read(client.once(managers.troubled, "read"))
            case "write":
                await client.write(dice.choice(WRITTEN), among)
            case "swap":
                await client.swap(dice.choice(SWAPPED), among)
        await asyncio.sleep(dice.random() * 0.05)


async def trouble(managers, clients, dice):
    """Every fault once, in some order, each for so many tries of the clients."""

    async def tries(number):
        end = number + sum(client.tries for client in clients)
        await eventually(lambda: sum(client.tries for client in clients) >= end, 60)

    for fault in dice.sample(sorted(FAULTS), len(FAULTS)):
        managers.troubled = await managers.leader(managers.all)
        async with FAULTS[fault](managers, managers.troubled) as successors:
            if successors:
                await managers.leader(successors)
            await tries(dice.randrange(10, 50))
        await tries(dice.randrange(10, 50))


async def use(managers, seed):
    """The histories of the registers in that much trouble."""
    histories, numbers = {}, itertools.count(1)
    clients = [Client(managers, histories, numbers, random.Random(f"{seed} {each}")) for each in range(CLIENTS)]
    await clients[0].create()
    managers.troubled = managers.all[0]
    async with asyncio.TaskGroup() as group:
        troubled = group.create_task(trouble(managers, clients, random.Random(seed)))
        for client in clients:
            group.create_task(live(client, lambda: not troubled.done()))
    return histories


@pytest.mark.parametrize("seed", range(2))
async def test_what_clients_see_is_one_register_while_leaders_come_and_go(tmp_path, authority, seed):
    async with running(tmp_path, authority, STUBBORN) as managers:
        histories = await use(managers, seed)
        assert all(manager.running for manager in managers.all)
    seen = {(each.kind, each.result) for history in histories.values() for each in history if each.done != NEVER}
    assert {("write", None), ("cas", True)} <= seen
    assert not judge(histories), histories
