# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers in one thread on a made-up network, clock and power supply: the store's own core, driver and disk, seeded.

Safety is checked as it goes: one command for each index ever, one leader for each term, a read as new as every write
acknowledged before it.  In the end, with the faults over, all agree and hold every acknowledged write once.
"""

from __future__ import annotations

import heapq
import itertools
import random  # noqa: TID251 - the seeded dice of a made-up world
from collections import Counter
from concurrent.futures import Future

import msgspec
import pysyncobj.syncobj as library

from covey.model.errors import CoveyError
from covey.store.raft.compaction import Policy
from covey.store.raft.core import Core
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Driver
from covey.store.raft.membership import Change, check_change, first_entries, joiner_entries
from covey.store.raft.timings import Timings
from covey.store.raft.wire import Frames, encode
from tests.unit.store.faults import FailingFiles, Plug

TIMINGS = Timings()
POLICY = Policy(entries=40, size=1 << 20, tail_entries=8, tail_size=1 << 20)


class SimRandom:
    """What pysyncobj asks for its election timeouts."""

    def __init__(self, rng):
        self.random = rng.random


class ListMachine:
    """Remembers every command in order, and tells the oracle."""

    def __init__(self, oracle):
        self._oracle, self.commands = oracle, ()

    def apply(self, index, command):
        self._oracle.applied(index, command)
        self.commands += ((index, command),)
        return index

    def state(self):
        return self.commands

    def dump(self, state):
        return (msgspec.msgpack.encode(item) for item in state)

    def restore(self, chunks):
        self.commands = tuple(msgspec.msgpack.decode(chunk, type=tuple[int, bytes]) for chunk in chunks)
        for index, command in self.commands:
            self._oracle.applied(index, command)


class Oracle:
    """What must hold at every moment."""

    def __init__(self):
        self.by_index, self.leaders, self.acknowledged = {}, {}, {}

    def applied(self, index, command):
        assert self.by_index.setdefault(index, command) == command, f"two commands at index {index}"

    def leads(self, term, node_id):
        assert self.leaders.setdefault(term, node_id) == node_id, f"two leaders in term {term}"


class Pipe:
    """One direction between two nodes."""

    def __init__(self, rng):
        self.rng = rng
        self.open = self.cut = False
        self.generation, self.arrival, self.stalled_until = 0, 0.0, 0.0


class Pipes(dict):
    """By source and target; the dice of each do not depend on who asks first."""

    def __init__(self, seed):
        super().__init__()
        self._seed = seed

    def __missing__(self, pair):
        pipe = self[pair] = Pipe(random.Random(f"{self._seed} {pair}"))
        return pipe


class SimNetwork:
    """One node's end."""

    def __init__(self, sim, node_id):
        self.sim, self.node_id, self.admitted = sim, node_id, set()

    def post(self, node_id, message):
        return self.sim.post(self.node_id, node_id, message)

    def asked(self):
        return True

    def room(self, node_id):
        pipe = self.sim.pipes[self.node_id, node_id]
        return pipe.open and pipe.arrival < self.sim.now + 0.3

    def admit(self, node_id, address):
        self.admitted.add(node_id)

    def expel(self, node_id):
        self.admitted.discard(node_id)
        self.sim.hang_up(self.node_id, node_id)
        self.sim.hang_up(node_id, self.node_id)


class SimNode:
    """One manager: its directory stays, the rest lives from start to crash."""

    def __init__(self, sim, node_id, initial, peers):
        self.sim, self.node_id, self.initial, self.peers = sim, node_id, initial, peers
        self.directory = sim.directory / node_id
        self.driver = self.files = None
        self.life = 0

    def start(self):
        self.life += 1
        full = self.files is not None and self.files.full
        self.files = FailingFiles()
        self.files.full = full
        self.disk = Disk(self.directory, self.node_id, self.files, self.sim.rng.randbytes)
        self.disk.open(self.initial)
        self.machine = ListMachine(self.sim.oracle)
        if self.disk.chunks is not None:
            self.machine.restore(self.disk.chunks)
        self.network = SimNetwork(self.sim, self.node_id)
        core = Core(
            self.node_id,
            self.disk.log,
            self.disk.snapshots,
            self.machine,
            self.network,
            peers=self.peers,
            timings=TIMINGS,
            background=self._background,
            policy=POLICY,
        )
        self.driver = Driver(core)
        self.sim.after(self.sim.rng.random() * TIMINGS.tick, self._regular_tick, self.life)

    @property
    def core(self):
        return self.driver.core

    def _background(self, work):
        written, life = Future(), self.life

        def write():
            if self.life == life and self.driver is not None:
                self.guarded(finish)

        def finish():
            try:
                written.set_result(work())
            except OSError as error:
                written.set_exception(error)

        self.sim.after(self.sim.rng.random() * 0.5, write)
        return written

    def _regular_tick(self, life):
        if life != self.life or self.driver is None:
            return
        self.tick()
        self.sim.after(TIMINGS.tick, self._regular_tick, life)

    def tick(self):
        def once():
            while self.driver.tick():
                pass
            if self.core._isLeader():
                self.sim.oracle.leads(self.core.raftCurrentTerm, self.node_id)

        self.guarded(once)

    def receive(self, node_id, message):
        def take():
            self.driver.receive(node_id, message)
            self.tick()

        self.guarded(take)

    def guarded(self, act):
        """Do it, unless the plug is pulled in the middle."""
        if self.driver is None:
            return
        try:
            act()
        except Plug:
            self.die()

    def die(self):
        if self.driver is None:
            return
        self.driver = None
        self.disk.release()
        for other in self.sim.nodes:
            self.sim.pipes[self.node_id, other].open = False
            self.sim.hang_up(other, self.node_id)

    def crash(self, calls):
        """Die at the ``calls``-th call to the kernel from now."""
        self.files.at = self.files.calls + calls


class Simulation:
    """The world."""

    def __init__(self, directory, seed, monkeypatch):
        self.directory, self.rng, self.now = directory, random.Random(seed), 0.0
        self.oracle, self.nodes = Oracle(), {}
        self.pipes = Pipes(seed)
        self._events, self._order = [], itertools.count()
        self.outcomes, self.proposed = Counter(), 0
        self.unanswered = {}
        self.disks_fill = False
        monkeypatch.setattr(library, "monotonicTime", lambda: self.now)
        monkeypatch.setattr(library, "random", SimRandom(self.rng))

    # -- time

    def after(self, delay, call, *arguments):
        heapq.heappush(self._events, (self.now + delay, next(self._order), call, arguments))

    def run(self, seconds, each=None, every=0.05):
        end = self.now + seconds
        if each is not None:
            self.after(every, self._repeat, each, every, end)
        while self._events and self._events[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
        self.now = end

    def _repeat(self, each, every, end):
        if self.now < end:
            each()
            self.after(every, self._repeat, each, every, end)

    # -- the network

    def post(self, source, target, message):
        pipe = self.pipes[source, target]
        if not pipe.open:
            return False
        if pipe.cut:
            return True
        pipe.arrival = max(pipe.arrival, self.now + 0.0005 + pipe.rng.random() * 0.004, pipe.stalled_until)
        heapq.heappush(
            self._events,
            (pipe.arrival, next(self._order), self._arrive, (source, target, pipe.generation, encode(message))),
        )
        return True

    def _arrive(self, source, target, generation, data):
        pipe, node = self.pipes[source, target], self.nodes[target]
        if pipe.generation == generation and node.driver is not None and source in node.network.admitted:
            (message,) = Frames().feed(data)
            node.receive(source, message)

    def hang_up(self, source, target):
        pipe = self.pipes[source, target]
        if pipe.open:
            pipe.open = False
            pipe.generation += 1
            if self.nodes[source].driver is not None:
                self.nodes[source].core.disconnected(target)

    def dial(self):
        """Every node tries to reach whom it lacks, as the transport does."""
        for source, target in itertools.permutations(self.nodes, 2):
            pipe, here, there = self.pipes[source, target], self.nodes[source], self.nodes[target]
            if pipe.open or pipe.cut or here.driver is None or there.driver is None:
                continue
            if target in here.network.admitted and source in there.network.admitted:
                pipe.open, pipe.arrival = True, self.now
                pipe.generation += 1
                here.core.connected(target)

    # -- what people and fate do

    def found(self, size):
        self._make("node-0", first_entries("node-0", "node-0:1"), {})
        for number in range(1, size):
            self.run(0.5, self.dial)
            self.add(f"node-{number}")
        for _ in range(100):
            self.run(0.2, self.dial)
            if all(len(node.core.configuration) == size for node in self.nodes.values()):
                return
        raise AssertionError("no cluster formed")

    def _make(self, node_id, initial, peers):
        self.nodes[node_id] = SimNode(self, node_id, initial, peers)
        self.nodes[node_id].start()

    def add(self, node_id):
        leader = self.leader()
        self._make(node_id, joiner_entries(), dict(leader.core.configuration))
        for _ in range(200):
            leader = self.leader()
            if leader is not None and self.change(leader, Change(True, node_id, f"{node_id}:1")):
                return
            self.run(0.1, self.dial)
        raise AssertionError("never added")

    def change(self, leader, change):
        """Ask for a change of the voters as the engine would; whether it is (being) made."""
        if change.apply(leader.core.configuration) == leader.core.configuration:
            return True
        reachable = leader.core.reachable() | ({change.node_id} if change.add else frozenset())
        try:
            check_change(change, leader.core.configuration, reachable)
        except CoveyError:
            return False
        leader.driver.change(change, lambda _: None)
        leader.tick()
        return False

    def leader(self):
        led = [node for node in self.nodes.values() if node.driver is not None and node.core.settled]
        return max(led, key=lambda node: node.core.raftCurrentTerm, default=None)

    def write(self):
        """Propose at whoever believes to lead, deposed ones included."""
        for node in self.nodes.values():
            if node.driver is not None and node.core._isLeader():
                self._propose(node)

    def _propose(self, node):
        self.proposed += 1
        command = b"command-%d" % self.proposed
        self.unanswered[command] = node, node.life

        def answer(value):
            del self.unanswered[command]
            if isinstance(value, Exception):
                self.outcomes[type(value).__name__] += 1
            else:
                self.outcomes["acknowledged"] += 1
                self.oracle.acknowledged[command] = value

        node.driver.propose(command, 0, answer)
        node.guarded(node.tick)

    def read(self):
        """A barrier anywhere: if it answers, it has seen every write acknowledged before it was asked for."""
        for node in self.nodes.values():
            if node.driver is None:
                continue
            known = dict(self.oracle.acknowledged)

            def answer(value, node=node, known=known):
                if isinstance(value, Exception):
                    return
                self.outcomes["read"] += 1
                seen = {command for _, command in node.machine.commands}
                assert known.keys() <= seen, "a barrier missed an acknowledged write"

            node.driver.barrier(answer)

    def fate(self):
        """One of the things that happen."""
        events = [self._pull_plug] * 2 + [
            self._kill,
            self._cut,
            self._stall,
            self._break,
            self._isolate,
            self._blackout,
        ]
        mending = [self._revive] * 3 + [self._mend] * 3
        if self.disks_fill:
            events, mending = events + [self._fill] * 3, mending + [self._make_room] * 3
        self.rng.choice(events + mending)()

    def _fill(self):
        self._any_node().files.full = True

    def _make_room(self):
        self._any_node().files.full = False

    def _any_node(self):
        return self.rng.choice(list(self.nodes.values()))

    def _any_pair(self):
        return tuple(self.rng.sample(list(self.nodes), 2))

    def _pull_plug(self):
        node = self._any_node()
        if node.driver is not None:
            node.crash(self.rng.randrange(8))

    def _kill(self):
        self._any_node().die()

    def _revive(self):
        node = self._any_node()
        if node.driver is None:
            node.start()

    def _cut(self):
        self.pipes[self._any_pair()].cut = True

    def _mend(self):
        self.pipes[self._any_pair()].cut = False

    def _stall(self):
        self.pipes[self._any_pair()].stalled_until = self.now + self.rng.random() * 2

    def _break(self):
        self.hang_up(*self._any_pair())

    def _isolate(self):
        node = self._any_node()
        for other in self.nodes.keys() - {node.node_id}:
            self.pipes[node.node_id, other].cut = self.pipes[other, node.node_id].cut = True

    def _blackout(self):
        """The power of the whole room."""
        for node in self.nodes.values():
            if node.driver is not None:
                node.crash(self.rng.randrange(4))

    def trouble(self):
        self.dial()
        self.write()
        if self.rng.random() < 0.3:
            self.read()
        if self.rng.random() < 0.15:
            self.fate()

    def heal(self):
        for node in self.nodes.values():
            node.files.at, node.files.full = None, False
            if node.driver is None:
                node.start()
        for pipe in self.pipes.values():
            pipe.cut, pipe.stalled_until = False, 0.0

    def settle(self, seconds=20):
        """With the faults over everybody agrees, and nothing acknowledged is missing or doubled."""
        self.heal()
        for _ in range(int(seconds / 0.5)):
            self.run(0.5, self.dial)
            if self._agree():
                break
        else:
            raise AssertionError(f"no agreement: {self._standings()}")
        for node in self.nodes.values():
            counts = Counter(command for _, command in node.machine.commands)
            assert not self.oracle.acknowledged.keys() - counts.keys(), "an acknowledged write is lost"
            assert max(counts.values(), default=1) == 1, "a write took effect twice"
        for command, (node, life) in self.unanswered.items():
            assert node.life != life, f"nobody was told what became of {command!r}"

    def _agree(self):
        leader = self.leader()
        last = {(node.core.raftLastApplied, node.machine.commands) for node in self.nodes.values()}
        return leader is not None and len(last) == 1 and leader.core.raftLastApplied == leader.disk.log.last

    def _standings(self):
        return {
            node_id: (node.core.raftCurrentTerm, node.core.leader, node.core.raftLastApplied, node.disk.log.last)
            for node_id, node in self.nodes.items()
        }
