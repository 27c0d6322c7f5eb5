# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers in one thread on a made-up network, clock and disks: the store's own core, driver, disk and state machine.

Everything comes from the seed: nothing here reads a clock, opens a socket or starts a thread.  ``oracle.py`` judges as
it goes and in the end, ``clients.py`` uses the cluster, ``faults.py`` troubles it.
"""

from __future__ import annotations

import heapq
import itertools
import random  # noqa: TID251 - the seeded dice of a made-up world
from collections import Counter

import pysyncobj.syncobj as library

from covey.model.errors import CoveyError
from covey.store.raft.compaction import Policy
from covey.store.raft.membership import Change, check_change, first_entries, joiner_entries
from covey.store.raft.wire import Frames, encode
from tests.raft.clients import Clients
from tests.raft.oracle import Oracle
from tests.raft.simnode import SimNode

SMALL_TAIL = Policy(entries=40, size=1 << 20, tail_entries=8, tail_size=1 << 20)


class ActingDice:
    """What pysyncobj rolls for its election time-outs: the dice of the node that acts."""

    def __init__(self, sim):
        self._sim = sim

    def random(self):
        return self._sim.acting.rng.random()


class Pipe:
    """One direction between two nodes: in order as long as a connection lasts."""

    def __init__(self, rng):
        self.rng = rng
        self.open, self.cuts = False, 0
        self.generation, self.arrival, self.stalled_until = 0, 0.0, 0.0


class Pipes(dict):
    """By source and target; the dice of each do not depend on who asks first."""

    def __init__(self, seed):
        super().__init__()
        self._seed = seed

    def __missing__(self, pair):
        pipe = self[pair] = Pipe(random.Random(f"{self._seed} {pair}"))
        return pipe


class Simulation:
    """The world."""

    def __init__(self, directory, seed, patch, *, policy=SMALL_TAIL, rate=6.0, ballast=(0,)):
        """``patch`` is a pytest.MonkeyPatch: pysyncobj asks its module for the time and for dice."""
        self.directory, self.seed, self.now, self.policy = directory, seed, 0.0, policy
        self.oracle, self.pipes, self.outcomes = Oracle(), Pipes(seed), Counter()
        self.nodes: dict[str, SimNode] = {}
        self.acting: SimNode | None = None
        self.clients = Clients(self, random.Random(f"clients {seed}"), rate, ballast)
        self._events, self._order = [], itertools.count()
        patch.setattr(library, "monotonicTime", lambda: self.now)
        patch.setattr(library, "random", ActingDice(self))

    def close(self):
        """Let go of every directory."""
        for node in self.nodes.values():
            node.disk.release()

    # -- time

    def after(self, delay, call, *arguments):
        heapq.heappush(self._events, (self.now + delay, next(self._order), call, arguments))

    def run(self, seconds):
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
        self.now = end

    def keep_dialling(self):
        """Every node tries to reach whom it lacks, as the transport does."""
        for (source, here), (target, there) in itertools.permutations(self.nodes.items(), 2):
            pipe = self.pipes[source, target]
            if pipe.open or pipe.cuts or here.driver is None or there.driver is None:
                continue
            if target in here.network.admitted and source in there.network.admitted:
                pipe.open, pipe.arrival = True, self.now
                pipe.generation += 1
                here.core.connected(target)
        self.after(0.1, self.keep_dialling)

    # -- the network

    def post(self, node, target, message):
        pipe = self.pipes[node.node_id, target]
        if not pipe.open:
            return False
        if pipe.cuts:
            return True
        leaves = max(self.now, node.busy_until)
        pipe.arrival = max(pipe.arrival, leaves + 0.0005 + pipe.rng.random() * 0.004, pipe.stalled_until)
        what = (node.node_id, target, pipe.generation, encode(message))
        heapq.heappush(self._events, (pipe.arrival, next(self._order), self._arrive, what))
        return True

    def _arrive(self, source, target, generation, data):
        node = self.nodes[target]
        if self.pipes[source, target].generation == generation and node.driver is not None:
            node.when_free(self._deliver, source, target, generation, data)

    def _deliver(self, source, target, generation, data):
        pipe, node = self.pipes[source, target], self.nodes[target]
        if pipe.generation == generation and node.driver is not None and source in node.network.admitted:
            (message,) = Frames().feed(data)
            node.receive(source, message)

    def hang_up(self, source, target):
        """The connection is reset; what was under way on it is gone."""
        pipe = self.pipes[source, target]
        if pipe.open:
            pipe.open = False
            pipe.generation += 1
            if self.nodes[source].driver is not None:
                self.nodes[source].core.disconnected(target)

    # -- who is there

    def found(self, size):
        """Form a cluster of that size, one after the other."""
        self._make("node-0", first_entries("node-0", "node-0:1"), {})
        self.after(0.0, self.keep_dialling)
        self.run(0.5)
        for number in range(1, size):
            self.join(f"node-{number}")
            for _ in range(200):
                self.run(0.1)
                if all(len(node.core.configuration) == number + 1 for node in self.nodes.values()):
                    break
            else:
                raise AssertionError("no cluster formed")

    def _make(self, node_id, initial, peers):
        self.nodes[node_id] = SimNode(self, node_id, initial, peers)
        self.nodes[node_id].start()

    def leader(self):
        """The newest one that leads."""
        led = [node for node in self.nodes.values() if node.driver is not None and node.core.settled]
        return max(led, key=lambda node: node.core.raftCurrentTerm, default=None)

    def any_alive(self, rng):
        """Some node that runs."""
        alive = [node for node in self.nodes.values() if node.driver is not None]
        return rng.choice(alive) if alive else None

    # -- what an operator does, patiently

    def join(self, node_id, tries=100):
        """Add a new manager."""
        leader = self.leader()
        if leader is not None and node_id not in self.nodes:
            self._make(node_id, joiner_entries(), dict(leader.core.configuration))
            self._ask_change(Change(True, node_id, f"{node_id}:1"), tries)

    def leave(self, node_id, tries=50):
        """Take a manager away for good."""
        self._ask_change(Change(False, node_id, f"{node_id}:1"), tries)

    def _ask_change(self, change, tries):
        """Ask for a change of the voters as the engine would, until it is made or patience ends."""
        leader = self.leader()
        if leader is not None and self._made(leader, change):
            self._changed(change)
            return
        if leader is not None and self._allowed(leader, change):
            self._press(leader, change)
        if tries:
            self.after(0.2, self._ask_change, change, tries - 1)

    def _made(self, leader, change):
        """Whether the leader's log says so, and a majority's."""
        configuration, applied = leader.core.configuration, leader.core.applied_members
        return change.apply(configuration) == configuration and change.apply(applied) == applied

    def _press(self, leader, change):
        if change.add and change.node_id not in leader.core.configuration:
            leader.guarded(lambda: leader.core.teach(change.node_id, change.address))
            if leader.driver is None or leader.core.holds(change.node_id) < leader.core.raftCommitIndex:
                return
        if leader.node_id == change.node_id and not change.add:
            leader.guarded(leader.core.transferLeadership)
        else:
            leader.guarded(lambda: leader.driver.change(change, lambda _: None))
        leader.kick()

    def _allowed(self, leader, change):
        answering = leader.core.answering() | ({change.node_id} if change.add else frozenset())
        try:
            check_change(change, leader.core.configuration, answering)
        except CoveyError:
            return False
        return True

    def _changed(self, change):
        self.outcomes["joined" if change.add else "left"] += 1
        if not change.add:
            self.nodes[change.node_id].retired = True
            self.after(1.0, self.nodes[change.node_id].die)

    # -- the end

    def heal(self):
        """The faults are over."""
        for pipe in self.pipes.values():
            pipe.cuts, pipe.stalled_until = 0, 0.0
        for node in self.nodes.values():
            node.files.at, node.files.full, node.files.failing, node.files.delay = None, False, False, 0.0
            if node.driver is None and not node.retired:
                node.start()

    def settle(self, seconds=20):
        """With the faults over everybody agrees, and nothing acknowledged is missing or doubled."""
        self.heal()
        for _ in range(int(seconds / 0.5)):
            self.run(0.5)
            if self._agree():
                break
        else:
            self.oracle.require(False, "all agree once the faults are over", str(self.standings()))
        leader = self.leader()
        services = leader.machine.state().services
        lost = self.oracle.acknowledged.keys() - services.keys()
        self.oracle.require(not lost, "what was acknowledged is there", lambda: f"{sorted(lost)} are lost")
        if self.clients.unanswered():
            self.run(6.0)  # whoever stood still may do so a little longer than it took the others
        silent = self.clients.unanswered()
        self.oracle.require(not silent, "every caller is answered once", f"calls {silent} were not")

    def _voters(self, leader):
        return [self.nodes[node_id] for node_id in leader.core.configuration if not self._is_stranded(node_id)]

    def _is_stranded(self, node_id):
        """Whether all it knows left while it was away: it lets nobody else in, and has to join anew."""
        node = self.nodes[node_id]
        known = node.core.configuration.keys() - {node_id} if node.driver is not None else set()
        return bool(known) and all(self.nodes[other].retired for other in known)

    def _agree(self):
        leader = self.leader()
        if leader is None or any(node.driver is None for node in self._voters(leader)):
            return False
        state = leader.machine.state()
        return leader.core.raftLastApplied == leader.disk.log.last and all(
            node.core.raftLastApplied == leader.core.raftLastApplied and node.machine.state() == state
            for node in self._voters(leader)
        )

    def standings(self):
        """Where everybody is."""
        return {
            node_id: (node.core.raftCurrentTerm, node.core.leader, node.core.raftLastApplied, node.disk.log.last)
            if node.driver
            else "down"
            for node_id, node in self.nodes.items()
        }
