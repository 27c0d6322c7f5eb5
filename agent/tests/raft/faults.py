# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a simulated cluster, as data: made from a seed, told as a story, left out one by one to find out
which of it matters.  Each fault ends by itself, so that any part of a schedule is a schedule.
"""

from __future__ import annotations

import random  # noqa: TID251 - the seeded dice of a made-up world
from dataclasses import dataclass

LEADER = -1


@dataclass(frozen=True, slots=True)
class Fault:
    """``who`` and ``other`` number the nodes as they came, -1 is whoever leads then; ``length`` is in seconds."""

    at: float
    kind: str
    who: int
    other: int
    length: float
    amount: int

    def __str__(self):
        who, other = (("the leader" if n == LEADER else f"node {n}") for n in (self.who, self.other))
        told = TELLING[self.kind].format(who=who, other=other, length=self.length, amount=self.amount)
        return f"{self.at:6.2f} s: {told}"


TELLING = {
    "power": "the power of {who} fails at its {amount}. call to the kernel, back after {length:.2f} s",
    "kill": "{who} is killed, back after {length:.2f} s",
    "stop": "{who} is stopped in good order, back after {length:.2f} s",
    "blackout": "the power of all fails within {amount} calls to the kernel, back within {length:.2f} s",
    "start": "{who} is killed and loses its power at the {amount}. call of its start, back after {length:.2f} s",
    "cut": "nothing gets from {who} to {other} for {length:.2f} s",
    "part": "{who} is cut off from all others for {length:.2f} s",
    "deaf": "{who} hears nobody for {length:.2f} s",
    "mute": "nobody hears {who} for {length:.2f} s",
    "split": "the nodes part in two (by bits {amount}) for {length:.2f} s",
    "reset": "the connection from {who} to {other} is reset",
    "stall": "what {who} says to {other} is delayed by {length:.2f} s",
    "freeze": "{who} stands still for {length:.2f} s",
    "slow": "each sync of {who} takes {amount} ms, for {length:.2f} s",
    "full": "the disk of {who} is full for {length:.2f} s",
    "sync": "the disk of {who} fails to sync, for {length:.2f} s",
    "snapshot": "{who} takes a snapshot",
    "rekey": "{who} changes its data key",
    "transfer": "{who} hands leadership over",
    "join": "a new manager joins",
    "leave": "{who} is removed from the managers",
}

#: How often each happens, relative to the others.
EVERYTHING = {
    "power": 4,
    "kill": 3,
    "stop": 1,
    "blackout": 1,
    "start": 1,
    "cut": 3,
    "part": 2,
    "deaf": 1,
    "mute": 1,
    "split": 1,
    "reset": 2,
    "stall": 3,
    "freeze": 2,
    "slow": 1,
    "full": 1,
    "sync": 1,
    "snapshot": 2,
    "rekey": 1,
    "transfer": 1,
    "join": 1,
    "leave": 1,
}


def plan(seed, size, seconds, each_second, weights):
    """The faults of a schedule, in order."""
    dice = random.Random(f"faults {seed}")
    kinds, at, faults = list(weights), 0.5, []
    while (at := at + dice.expovariate(each_second)) < seconds:
        kind = dice.choices(kinds, list(weights.values()))[0]
        who = LEADER if dice.random() < 0.5 else dice.randrange(size)
        length = dice.choice((0.1, 0.5, 1.0, 3.0)) * (0.5 + dice.random())
        faults.append(Fault(at, kind, who, dice.randrange(size), length, dice.randrange(1, 12)))
    return faults


class Fate:
    """Lets faults happen to a simulation."""

    def __init__(self, sim):
        self.sim = sim

    def schedule(self, faults):
        """Each at its time, counted from now."""
        for fault in faults:
            self.sim.after(fault.at, self._strike, fault)

    def _strike(self, fault):
        getattr(self, "_" + fault.kind)(fault, self._node(fault.who))

    def _node(self, number):
        leader = self.sim.leader() if number == LEADER else None
        nodes = list(self.sim.nodes.values())
        return leader or nodes[number % len(nodes)]

    def _revive(self, fault, node):
        def start():
            if node.driver is None and not node.retired:
                node.start()

        self.sim.after(fault.length, start)

    # -- processes and power

    def _power(self, fault, node):
        node.files.pull_plug(fault.amount)
        self._revive(fault, node)

    def _kill(self, fault, node):
        node.die()
        self._revive(fault, node)

    def _stop(self, fault, node):
        node.stop()
        self._revive(fault, node)

    def _blackout(self, fault, _node):
        for number, node in enumerate(list(self.sim.nodes.values())):
            node.files.pull_plug((number * 7 + fault.at * 10) % fault.amount // 1)
            self._revive(fault, node)

    def _start(self, fault, node):
        node.die()
        if not node.retired:
            node.files.pull_plug(fault.amount // 2)
            node.start()
            self._revive(fault, node)

    def _freeze(self, fault, node):
        node.freeze(fault.length)

    # -- disks

    def _slow(self, fault, node):
        self._trouble(fault, node, "delay", fault.amount * 0.02)

    def _full(self, fault, node):
        self._trouble(fault, node, "full", True)

    def _sync(self, fault, node):
        self._trouble(fault, node, "failing", True)

    def _trouble(self, fault, node, what, value):
        def relieve():
            setattr(node.files, what, type(value)())

        setattr(node.files, what, value)
        self.sim.after(fault.length, relieve)
        self._revive(fault, node)

    # -- links

    def _cut_links(self, fault, links):
        for link in links:
            self.sim.pipes[link].cuts += 1
            self.sim.after(fault.length, self._mend, link)
            if fault.amount % 2:
                self.sim.after(fault.length * 0.7, self.sim.hang_up, *link)

    def _mend(self, link):
        self.sim.pipes[link].cuts = max(0, self.sim.pipes[link].cuts - 1)

    def _others(self, node):
        return [other for other in self.sim.nodes if other != node.node_id]

    def _cut(self, fault, node):
        other = self._node(fault.other)
        if other is not node:
            self._cut_links(fault, [(node.node_id, other.node_id)])

    def _deaf(self, fault, node):
        self._cut_links(fault, [(other, node.node_id) for other in self._others(node)])

    def _mute(self, fault, node):
        self._cut_links(fault, [(node.node_id, other) for other in self._others(node)])

    def _part(self, fault, node):
        self._deaf(fault, node)
        self._mute(fault, node)

    def _split(self, fault, _node):
        sides = ([], [])
        for number, node_id in enumerate(self.sim.nodes):
            sides[fault.amount >> number & 1].append(node_id)
        self._cut_links(fault, [pair for a in sides[0] for b in sides[1] for pair in ((a, b), (b, a))])

    def _reset(self, fault, node):
        other = self._node(fault.other)
        if other is not node:
            self.sim.hang_up(node.node_id, other.node_id)

    def _stall(self, fault, node):
        self.sim.pipes[node.node_id, self._node(fault.other).node_id].stalled_until = self.sim.now + fault.length

    # -- what people ask for

    def _snapshot(self, _fault, node):
        if node.driver is not None:
            node.core.compaction.wanted = True

    def _rekey(self, _fault, node):
        node.guarded(lambda: node.disk.rotate_key())

    def _transfer(self, _fault, node):
        if node.driver is not None:
            node.guarded(node.core.transferLeadership)

    def _join(self, _fault, _node):
        self.sim.join(f"node-{len(self.sim.nodes)}")

    def _leave(self, _fault, node):
        leader = self.sim.leader()
        if leader is not None and len(leader.core.configuration) > 2:
            self.sim.leave(node.node_id)
