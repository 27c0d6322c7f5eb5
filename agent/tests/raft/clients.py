# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who use a simulated cluster: careful writers that repeat under one request id, leaders' loops, readers."""

from __future__ import annotations

from covey.model.changes import Batch, Create
from covey.model.errors import Conflict, CoveyError, NotLeader, Unavailable
from covey.model.objects import Service
from covey.model.spec import ServiceSpec
from covey.state.codec import encode_batch

PATIENCE = 8.0


def batch_of(name, request_id, fence=0, size=0):
    """A batch that creates something nobody else creates; ``size`` bytes larger than it must be."""
    spec = ServiceSpec(name=name, labels={"ballast": "x" * size}) if size else ServiceSpec(name=name)
    return encode_batch(
        Batch(request_id=request_id, at=1.0, fence=fence, changes=(Create(Service(id=name, spec=spec)),))
    )


class Clients:
    """All of them; what they want comes from dice of their own."""

    def __init__(self, sim, rng, rate, ballast):
        self.sim, self.rng, self.rate, self.ballast = sim, rng, rate, ballast
        self.written = 0
        self.waiting: dict[int, tuple] = {}
        self._calls = 0
        self.outcomes, self.until = sim.outcomes, 0.0

    def begin(self, seconds):
        """Keep busy for so long."""
        self.until = self.sim.now + seconds
        self.sim.after(0.0, self._step)

    def _step(self):
        if self.sim.now >= self.until:
            return
        for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
            self._write()
        if self.rng.random() < 0.5:
            self._decide()
        if self.rng.random() < 0.5:
            self._read()
        self.sim.after(self.rng.expovariate(self.rate), self._step)

    # -- asking, and being answered

    def _ask(self, node, ask, answer):
        """Have ``ask`` put the question; ``answer`` is told once, unless the process dies first."""
        self._calls += 1
        call = self._calls
        self.waiting[call] = node, node.life

        def once(value):
            if self.waiting.pop(call, None) is None:
                self.sim.oracle.require(False, "every caller is answered once", f"call {call} had two answers")
            answer(value)

        node.guarded(lambda: ask(node.driver, once))
        node.kick()

    def unanswered(self):
        """The calls to processes that live on and never answered."""
        return [call for call, (node, life) in self.waiting.items() if node.life == life and node.driver is not None]

    def turned_away(self, node):
        """Who does not lead has nobody waiting: what it cannot decide any more it says at once."""
        waiting = [call for call, who in self.waiting.items() if who == (node, node.life)]
        self.sim.oracle.require(
            not waiting, "who leads no longer tells its callers", lambda: f"calls {waiting} wait at {node.node_id}"
        )

    def died(self, node, life):
        """Whoever waited for that process finds the connection closed."""
        for call in [call for call, who in self.waiting.items() if who == (node, life)]:
            del self.waiting[call]

    def _someone(self):
        """Mostly the leader, as a client that was told who leads."""
        return self.sim.leader() if self.rng.random() < 0.9 else self.sim.any_alive(self.rng)

    # -- writers

    def _write(self):
        self.written += 1
        name = f"w{self.written}"
        size = self.rng.choice(self.ballast)
        self._try(name, batch_of(name, f"request-{name}", size=size), self.sim.now + PATIENCE)

    def _try(self, name, command, deadline):
        node, again = self._someone(), self.sim.now + 0.1 + self.rng.random() * 0.9
        if again < deadline:
            self.sim.after(again - self.sim.now, self._retry, name, command, deadline)
        if node is None:
            return

        def answer(value):
            if isinstance(value, (NotLeader, Unavailable)):
                self.outcomes[type(value).__name__] += 1
            elif isinstance(value, CoveyError):
                raise value
            elif isinstance(value.error, Conflict):
                self.sim.oracle.contradicted(name, value.error)
            else:
                self.outcomes["acknowledged"] += 1
                self.sim.oracle.answered(name, value.index)

        self._ask(node, lambda driver, once: driver.propose(command, 0, once), answer)

    def _retry(self, name, command, deadline):
        if name not in self.sim.oracle.acknowledged:
            self._try(name, command, deadline)

    # -- what a leader decides: fenced by the term it believed to lead in

    def _decide(self):
        for node in list(self.sim.nodes.values()):
            if node.driver is None or not node.core.settled:
                continue
            self.written += 1
            name, term = f"d{self.written}", node.core.raftCurrentTerm
            command = batch_of(name, "", fence=term)
            self.sim.after(self.rng.choice((0.0, 0.1, 1.5)), self._carry_out, node, name, command, term)

    def _carry_out(self, node, name, command, term):
        if node.driver is None:
            return

        def answer(value):
            if isinstance(value, (NotLeader, Unavailable)) or value.error is not None:
                self.outcomes["decision refused"] += 1
            else:
                self.outcomes["decision"] += 1
                self.sim.oracle.answered(name, value.index)

        self._ask(node, lambda driver, once: driver.propose(command, term, once), answer)

    # -- readers

    def _read(self):
        """At whoever believes to lead, deposed ones included."""
        for node in list(self.sim.nodes.values()):
            self.read_at(node)

    def read_at(self, node):
        """Ask for all that was acknowledged until now."""
        if node.driver is None:
            return
        known = list(self.sim.oracle.acknowledged)

        def answer(value):
            if not isinstance(value, Exception):
                self.outcomes["read"] += 1
                self.sim.oracle.read(node.node_id, known, node.machine.state())

        self._ask(node, lambda driver, once: driver.barrier(once), answer)
