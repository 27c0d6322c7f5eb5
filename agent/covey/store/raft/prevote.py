# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-vote: would the others elect me?  Asked before a term is spent on an election, decided purely.

Without it a member that hears nobody raises its term for ever, and deposes a good leader as soon as it is heard.  It
changes nothing of who may be voted for: a real election follows, by the rules of old.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from covey.store.raft.wire import PreVote, PreVoted


@dataclass(frozen=True, slots=True)
class Standing:
    """What an answer depends on; ``led``: this member leads, or heard its leader lately."""

    term: int
    last_index: int
    last_term: int
    led: bool


def advise(at: Standing, ask: PreVote) -> PreVoted:
    """Whether to stand, and our term in any case: who is behind it could never win."""
    whole = (ask.last_term, ask.last_index) >= (at.last_term, at.last_index)
    return PreVoted(at.term, ask.round, whole and not at.led and ask.term > at.term)


@dataclass(slots=True)
class Canvass:
    """The rounds of asking; only answers to the round under way count, each member's once."""

    term: int = 0
    round: int = 0
    over_at: float = 0.0
    _open: bool = False
    _in_favour: set[str] = field(default_factory=set)

    def begin(self, term: int, over_at: float) -> None:
        """Ask anew whether ``term`` could be won; asked again at ``over_at``."""
        self.term, self.round, self.over_at, self._open = term, self.round + 1, over_at, True
        self._in_favour.clear()

    def end(self) -> None:
        """The answers no longer matter, since there is a leader or an election."""
        self._open, self.over_at = False, 0.0
        self._in_favour.clear()

    def note(self, node_id: str, answer: PreVoted) -> None:
        """Count an answer."""
        if self._open and answer.granted and answer.round == self.round:
            self._in_favour.add(node_id)

    def won(self, voters: Collection[str], term: int) -> bool:
        """Whether a majority of ``voters``, the asking one included, is for our standing in ``term``."""
        return self._open and term == self.term and 1 + sum(v in self._in_favour for v in voters) > len(voters) // 2
