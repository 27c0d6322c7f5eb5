# SPDX-License-Identifier: GPL-3.0-or-later
"""What a follower really lets a leader do to it, decided purely: pysyncobj alone would lose acknowledged writes.

pysyncobj truncates its log after every message, matching or not; commits its own tail while a snapshot arrives; sends a
diverged follower in circles.  So the messages pass here first.  The invariants, each with its test:

- an entry that matches is never truncated, nor anything after it for the sake of a message that ends earlier;
- nothing is committed here beyond what the message proves to be the leader's log;
- a snapshot of what is committed here already changes nothing;
- the answer to a conflict never points below what is committed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from covey.store.raft.wire import Ack, Append, Beat, Chunk


class LogView(Protocol):
    """What the decisions look at of the log."""

    @property
    def first(self) -> int:
        """The oldest index here."""

    @property
    def last(self) -> int:
        """The newest index here."""

    def term_at(self, index: int) -> int | None:
        """The term of an entry, None if it is not here."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Where this node stands: its log, its term, what it knows to be committed."""

    log: LogView
    term: int
    commit: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What goes on to the election core, and what the leader is told at once (held until it is durable)."""

    deliver: Append | Beat
    ack: Ack | None = None


class Divergence(Exception):
    """The leader contradicts what is committed here: one of the two states is wrong, and nothing may go on."""


def on_append(at: Follower, message: Append) -> Verdict:
    """A leader's entries, reduced to those that are new here."""
    log, entries, prev, prev_term = at.log, message.entries, message.prev_index, message.prev_term
    through = prev + len(entries)
    if prev < log.first:
        if through <= log.first:
            return _settled(at, message, through)
        entries = entries[log.first - prev :]
        prev, prev_term = log.first, _term(log, log.first)
    if log.term_at(prev) != prev_term:
        return _refused(at, message, prev)
    known = _matching(log, prev, [entry[2] for entry in entries])
    if known == len(entries) and through < log.last:
        return _settled(at, message, through)
    if known < len(entries) and prev + known + 1 <= min(at.commit, log.last):
        raise _diverged(message, prev + known + 1)
    rest = Append(
        message.term, message.commit, message.seq, prev + known, _term(log, prev + known), list(entries[known:])
    )
    return Verdict(rest)


def _diverged(message: Append, index: int) -> Divergence:
    return Divergence(f"the leader of term {message.term} holds another entry {index} than the one committed here")


def _settled(at: Follower, message: Append, through: int) -> Verdict:
    """Everything up to ``through`` is here already: say so, keep what follows."""
    beat = Beat(message.term, min(message.commit, through), message.seq)
    return Verdict(beat, _ack(message, through + 1, success=True))


def _refused(at: Follower, message: Append, prev: int) -> Verdict:
    """The log lacks or contradicts ``prev``: ask for where it can still agree, keep the log as it is."""
    committed = min(max(at.commit, at.log.first), at.log.last)
    if prev <= committed:
        raise _diverged(message, prev)
    if prev > at.log.last:
        hint = at.log.last + 1
    else:
        hint, term = prev, at.log.term_at(prev)
        while hint > committed + 1 and at.log.term_at(hint - 1) == term:
            hint -= 1
    beat = Beat(message.term, min(message.commit, committed), message.seq)
    return Verdict(beat, _ack(message, hint, reset=True))


def _matching(log: LogView, prev: int, terms: list[int]) -> int:
    """How many entries after ``prev`` are here with those terms."""
    count = 0
    while count < len(terms) and log.term_at(prev + 1 + count) == terms[count]:
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class ChunkVerdict:
    """``take``: the chunk's bytes are wanted.  The beat is always for the core, the ack for the leader."""

    beat: Beat
    take: bool
    ack: Ack


def on_chunk(at: Follower, message: Chunk) -> ChunkVerdict:
    """A piece of a snapshot: never a reason to commit anything of our own, nor wanted if we hold its end."""
    beat = Beat(message.term, min(message.commit, at.commit), message.seq)
    if message.index <= at.commit or at.log.term_at(message.index) == message.index_term:
        return ChunkVerdict(beat, False, _ack(message, message.index + 1, success=True))
    return ChunkVerdict(beat, True, _ack(message, at.log.first))


def _ack(message: Append | Chunk, next_index: int, *, reset: bool = False, success: bool = False) -> Ack:
    return Ack(message.term, message.seq, next_index, reset, success)


def _term(log: LogView, index: int) -> int:
    term = log.term_at(index)
    if term is None:
        raise AssertionError(f"entry {index} was just seen and is gone")
    return term


@dataclass(slots=True)
class Progress:
    """A leader's filter for the answers of one follower."""

    rewound_at: int = 0

    def accepts(self, ack: Ack, term: int, sent: int) -> bool:
        """Whether ``ack`` speaks of this term, and, if it rewinds, of something sent after the last rewind.

        ``sent`` is the number of the last message sent; a rewind makes the answers to everything before it void.
        """
        if ack.term != term:
            return False
        if not ack.reset:
            return True
        if ack.seq <= self.rewound_at:
            return False
        self.rewound_at = sent
        return True
