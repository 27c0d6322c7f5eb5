# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of Raft: drives a core and its log tick by tick; no loop, thread, clock or socket of its own.

The order within a tick is the safety of group commit: what others are told of, and what this node counts itself for,
is durable first; entries leave for the followers before our own disk has them.

A disk without room ends no member, it only silences it: it hands over, promises nothing, shows what it knows, and goes
on once there is room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pysyncobj.syncobj as library

from covey.model.errors import CoveyError, FailedPrecondition, NotLeader, Unavailable
from covey.store.raft.core import DENIED, NOT_LEADER, REPLACED, SUCCESS, Core, Proposal
from covey.store.raft.fulldisk import FullDisk, out_of_room
from covey.store.raft.membership import REGULAR, Change, encode_change, node_of
from covey.store.raft.wire import AnyMessage

_log = logging.getLogger(__name__)

#: Takes a value, or the CoveyError to raise.
Answer = Callable[[Any], None]

#: Proposals that may wait for one tick; beyond that the caller is told to slow down.
MAX_WAITING = 4096


@dataclass(slots=True)
class _Barrier:
    """A read that waits until a majority confirms our leadership and ``index`` is applied; ``seq`` -1 is not sent."""

    index: int
    answer: Answer
    seq: int = -1


class Driver:
    """Turns proposals, reads and time into ticks of one core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._log, self._outbox = core.log, core.outbox
        self._barriers: list[_Barrier] = []
        self._led = False
        self._full = FullDisk()

    def tick(self) -> bool:
        """Do what there is to do; True if there is more at once.  What it raises must end this member."""
        try:
            return self._turn() if self._has_room() else self._idle()
        except OSError as error:
            self._hold(error)
            return False

    def receive(self, node_id: str, message: AnyMessage) -> None:
        """Take in one message of a member.  What it raises must end this member."""
        try:
            self.core.receive(node_id, message)
        except OSError as error:
            self._hold(error)

    def _turn(self) -> bool:
        core, log = self.core, self._log
        self._settle_disk()
        before = log.last, core.raftCommitIndex
        core._onTick(0)
        if core._isLeader():
            unsent = self._number_barriers()
            core.replicate(beat=unsent or (log.last, core.raftCommitIndex) != before)
        self._settle_disk()
        self._settle_leadership()
        self._settle_barriers()
        return core.waiting

    # -- a full disk

    @property
    def trouble(self) -> str:
        """Why this member takes no part, for a person; empty if it does."""
        if self.core.dismissed:
            return (
                "this node's vote was taken away: it is no manager of its cluster any more; if it does not become a "
                "worker by itself it was removed, and has to leave (docker swarm leave --force) before it can join anew"
            )
        if self._full.since is None:
            return ""
        return (
            f"the disk with {self._log.directory} is full: this manager neither votes nor writes, and shows only what "
            "it knew when that began; free some room, and it goes on by itself"
        )

    def _hold(self, error: OSError) -> None:
        """A write found no room: hold everything until there is some.  Any other error is raised again."""
        if not out_of_room(error):
            raise error
        told = self._full.since is not None
        self._full.begin(library.monotonicTime())
        if not told:
            _log.error("%s (%s)", self.trouble, error)
        self.core.stalled = True
        self.core.step_down()
        self._settle_leadership()
        self._settle_barriers()

    def _has_room(self) -> bool:
        """Whether nothing is held up, or no longer: everything that waited is on the disk then."""
        now = library.monotonicTime()
        if self._full.due(now):
            self._log.sync()
            self._full.end(now)
            self.core.resume()
            _log.warning("the disk with %s has room again: this manager takes part again", self._log.directory)
        return self._full.since is None

    def _idle(self) -> bool:
        """A turn that writes nothing: what is committed is applied, who asks is answered."""
        self.core._onTick(0)
        self._settle_barriers()
        return False

    # -- calls

    def propose(self, command: bytes, fence: int, answer: Answer) -> None:
        """Put a command of the state machine into the log; answers with what ``apply`` makes of it."""
        if len(self.core.proposals) >= MAX_WAITING:
            answer(Unavailable(f"{MAX_WAITING} writes are waiting already; try again in a moment"))
            return
        self._append(bytes([REGULAR]) + command, fence, answer)

    def change(self, change: Change, answer: Answer) -> None:
        """Put a change of the voters into the log."""
        self._append(encode_change(change), self.core.raftCurrentTerm, answer)

    def barrier(self, answer: Answer) -> None:
        """Answer with the applied index once that is as new as any write acknowledged before now."""
        if self.core.settled:
            self._barriers.append(_Barrier(self.core.raftCommitIndex, answer))
        else:
            answer(self.not_leader())

    def not_leader(self) -> CoveyError:
        """The error that names the leader, if another one is known, or says why there is none."""
        leader = self.core.leader
        if leader is None and self.trouble:
            return Unavailable(f"{self.trouble}. Nothing was changed")
        return NotLeader(None if leader is None or leader == self.core.selfNode.id else node_of(leader))

    def abandon(self, error: Exception) -> None:
        """Answer everybody who still waits."""
        proposals, self.core.proposals = self.core.proposals, []
        for proposal in proposals:
            proposal.reply(None, NOT_LEADER)
        self.core.abandon_waiting()
        for barrier in self._barriers:
            barrier.answer(error)
        self._barriers.clear()

    def _append(self, entry: bytes, fence: int, answer: Answer) -> None:
        def reply(result: Any, why: int) -> None:
            answer(result if why == SUCCESS else self._refusal(why))

        self.core.proposals.append(Proposal(entry, fence, reply))

    def _refusal(self, why: int) -> Exception:
        if why in (NOT_LEADER, REPLACED):
            return self.not_leader()
        if why == DENIED:
            return FailedPrecondition("another change of the managers is under way; try again when it is done")
        return Unavailable("leadership was lost before a majority confirmed the write; it may still take effect")

    def _settle_disk(self) -> None:
        self._log.sync()
        self._outbox.flush()

    def _settle_leadership(self) -> None:
        """Who waits for an entry of a leadership that ended learns at once that its outcome is unknown."""
        leads = self.core._isLeader()
        if self._led and not leads:
            self.core.abandon_waiting()
            self.core.forget_learners()
        self._led = leads

    def _number_barriers(self) -> bool:
        """Bind the barriers opened since the last tick to the messages this one sends; whether there are any."""
        unsent = [barrier for barrier in self._barriers if barrier.seq < 0]
        for barrier in unsent:
            barrier.seq = self._outbox.seq + 1
        return bool(unsent)

    def _settle_barriers(self) -> None:
        core, barriers, self._barriers = self.core, self._barriers, []
        for barrier in barriers:
            if not core.settled:
                barrier.answer(self.not_leader())
            elif barrier.seq >= 0 and core.confirmed(barrier.seq) and core.raftLastApplied >= barrier.index:
                barrier.answer(core.raftLastApplied)
            else:
                self._barriers.append(barrier)
