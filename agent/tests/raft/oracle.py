# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold at every moment of a simulated cluster, whatever happens to it; the first breach ends the run."""

from __future__ import annotations

from covey.state.codec import CODEC, decode_batch
from covey.store.raft.machine import ViewMachine
from covey.store.raft.membership import MEMBERSHIP, REGULAR
from covey.store.raft.wire import Ack, PreVoted, RequestVote, TimeoutNow, Vote

#: Seconds after which a leader that a majority was silent to leads no longer: its time-out and a few ticks.
PATIENCE = 2.0


class Violation(AssertionError):
    """A promise was broken; ``promise`` names it."""

    def __init__(self, promise, detail):
        super().__init__(f"{promise}: {detail}")
        self.promise = promise


class Oracle:
    """Sees every election, every application, every answer."""

    def __init__(self):
        self.commands: dict[int, bytes] = {}
        self.outcomes: dict[int, tuple] = {}
        self.views: dict[int, object] = {}
        self.leaders: dict[int, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.promised: dict[str, tuple[int, int]] = {}
        self.heard: dict[tuple[str, str], float] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.consents: dict[str, set[str]] = {}
        self.heirs: set[str] = set()

    def require(self, holds, promise, detail):
        if not holds:
            raise Violation(promise, detail() if callable(detail) else detail)

    def leads(self, node_id, core):
        """``node_id`` takes itself for the leader: alone in its term, and with everything that was ever applied."""
        if core.raftCurrentTerm in self.leaders and self.leaders[core.raftCurrentTerm] == node_id:
            return
        first = self.leaders.setdefault(core.raftCurrentTerm, node_id)
        self.require(
            first == node_id, "one leader a term", f"{first} and {node_id} lead in term {core.raftCurrentTerm}"
        )
        log = core.log
        for index, command in self.commands.items():
            if index >= log.first:
                self.require(
                    index <= log.last and log[index - log.first][0][1:] == command,
                    "a leader holds all that was applied",
                    f"entry {index} is not in the log of {node_id}, elected for term {core.raftCurrentTerm}",
                )

    def keeps(self, node_id, core):
        """``node_id`` has acted, and holds what it said that it holds."""
        promised_in, through = self.promised.get(node_id, (0, 0))
        self.require(
            core.raftCurrentTerm != promised_in or core.log.last >= through,
            "who acknowledged an entry holds it",
            lambda: f"{node_id} told the leader of term {promised_in} that it holds {through}, and has {core.log.last}",
        )

    def says(self, node_id, other, message, voters):
        """``node_id`` makes a promise to ``other``, if it is one: what it holds, or whom it votes for."""
        match message:
            case Ack(success=True):
                self._promises(node_id, message)
            case Vote(term):
                self._votes(node_id, term, other)
            case RequestVote(term):
                self._stands(node_id, term, voters)

    def _stands(self, node_id, term, voters):
        if (node_id, term) not in self.votes:
            consent = self.consents.pop(node_id, set()) & voters
            self.require(
                node_id in self.heirs or 1 + len(consent) > len(voters) // 2,
                "nobody stands without a majority's consent",
                lambda: f"{node_id} stands for term {term}, only {sorted(consent)} are for it",
            )
            self.heirs.discard(node_id)
        self._votes(node_id, term, node_id)

    def _votes(self, node_id, term, candidate):
        first = self.votes.setdefault((node_id, term), candidate)
        self.require(
            first == candidate, "one vote a term", lambda: f"{node_id} votes for {first} and {candidate} in term {term}"
        )

    def _promises(self, node_id, ack):
        self.promised[node_id] = max(self.promised.get(node_id, (0, 0)), (ack.term, ack.next_index - 1))

    def hears(self, node_id, other, message, now):
        """A message of ``other`` has reached ``node_id``."""
        self.heard[node_id, other] = now
        match message:
            case PreVoted(granted=True):
                self.consents.setdefault(node_id, set()).add(other)
            case TimeoutNow():
                self.heirs.add(node_id)

    def goes_on_leading(self, node_id, core, now):
        """``node_id`` leads still: a majority was not silent for long, and one change of the voters is under way."""
        others = core.voters - {node_id}
        lately = [now - self.heard.setdefault((node_id, other), now) <= PATIENCE for other in others]
        self.require(
            1 + sum(lately) > len(core.voters) // 2,
            "who hears no majority leads no longer",
            lambda: f"{node_id} still leads at {now:.2f} s",
        )
        # Before it has applied its first entry it need not know what is committed.
        uncommitted = core.log[max(0, core.raftCommitIndex + 1 - core.log.first) :]
        self.require(
            not core.settled or sum(entry[0][0] == MEMBERSHIP for entry in uncommitted) <= 1,
            "one change of the voters at a time",
            lambda: f"{node_id} leads with several changes that are not committed",
        )

    def applies(self, node, index, command, outcome, view):
        """``node`` applied ``command``."""
        known = self.commands.setdefault(index, command)
        self.require(known == command, "one command an index", f"{node.node_id} applies another one at {index}")
        said = outcome.index, str(outcome.error or "")
        self.require(
            self.outcomes.setdefault(index, said) == said,
            "one outcome a command",
            lambda: f"{node.node_id} makes {said} of entry {index}, others {self.outcomes[index]}",
        )
        self.views.setdefault(index, view)
        if outcome.error is None:
            self._fenced(node, index, decode_batch(command))

    def _fenced(self, node, index, batch):
        term = node.driver.core.log.term_at(index) if batch.fence and node.driver is not None else None
        if term is not None:
            self.require(
                batch.fence == term,
                "a deposed leader decides nothing",
                f"entry {index} of term {term} was decided in term {batch.fence}",
            )

    def restores(self, node_id, view):
        """``node_id`` took over a snapshot."""
        if view.index in self.views:
            self.require(
                view == self.views[view.index], "one state an index", f"{node_id} restores another one at {view.index}"
            )

    def answered(self, name, index):
        """A client was told that its write took effect at ``index``."""
        first = self.acknowledged.setdefault(name, index)
        self.require(first == index, "a write takes effect once", f"{name} at {first} and at {index}")

    def contradicted(self, name, error):
        """A client was told that its write clashes with something, but nobody else wants that name."""
        raise Violation("a write takes effect once", f"the answer to {name} is: {error}")

    def read(self, node_id, known, view):
        """A barrier that was asked for when ``known`` writes had been acknowledged answered ``view``."""
        for name in known:
            self.require(
                name in view.services, "a read sees all acknowledged before it", f"{name} is not seen at {node_id}"
            )


class WatchedMachine(ViewMachine):
    """The product's state machine, watched by the oracle."""

    def __init__(self, node, oracle):
        super().__init__(CODEC)
        self._node, self._oracle = node, oracle

    def apply(self, index, command):
        outcome = super().apply(index, command)
        self._oracle.applies(self._node, index, bytes(command), outcome, self.state())
        return outcome

    def restore(self, chunks):
        super().restore(chunks)
        self._oracle.restores(self._node.node_id, self.state())


def is_regular(entry):
    """Whether a log entry is a command of the state machine."""
    return entry[0][0] == REGULAR
