# SPDX-License-Identifier: GPL-3.0-or-later
"""When a member stands for election: pysyncobj's voting with pre-vote before it; uses its private names as ``core``."""

from __future__ import annotations

import pysyncobj.syncobj as library
from msgspec.structs import replace
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj

from covey.store.raft.log import Log
from covey.store.raft.outbox import Network, Outbox
from covey.store.raft.prevote import Canvass, Standing, advise
from covey.store.raft.wire import AnyMessage, PreVote, PreVoted, RequestVote, TimeoutNow, Vote

FOLLOWER = library._RAFT_STATE.FOLLOWER

#: A round of asking lasts this part of an election time-out.
_ROUND = 0.25


class Electing(SyncObj):
    """The part of a core that decides whether to stand; attributes are set by the core before SyncObj's own start."""

    log: Log
    network: Network
    outbox: Outbox
    configuration: dict[str, str]
    canvass: Canvass
    #: The disk is full: this member promises nothing, so it neither votes nor stands nor takes entries.
    stalled: bool
    #: This member was told that its vote was taken away, which is final: a node that comes back is another member.
    dismissed: bool
    _heard_at: float

    @property
    def voters(self) -> frozenset[str]:
        """The members that count towards a majority, this node included."""
        return frozenset({self.selfNode.id, *(node.id for node in self.otherNodes)})

    def _campaign(self, node: Node, message: AnyMessage) -> None:
        """Take in what is said about who shall lead."""
        if self.stalled:
            return
        match message:
            case RequestVote(term, index, last_term):
                body = {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": last_term}
                self.outbox._onMessageReceived(node, body)
            case Vote(term):
                if node in self.otherNodes:
                    self.outbox._onMessageReceived(node, {"type": "response_vote", "term": term})
            case PreVote():
                self._advise(node.id, message)
            case PreVoted():
                self._advised(node.id, message)
            case TimeoutNow(term):
                self.outbox._onMessageReceived(node, {"type": "timeout_now", "term": term})

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Whether to stand now that the time-out has passed: who does not vote never does, the others ask first.

        Who does not vote asks, too, since the answer names the leader.
        """
        if self.stalled or self.dismissed:
            return False
        votes = self.selfNode.id in self.configuration
        if not self.otherNodes:
            return votes
        # Each member is asked first whether the cluster has gone on without us: see ``epoch``.
        if not super()._SyncObj__connectedToAnyone() or not self.network.asked():
            return False
        if votes and self._SyncObj__transferInProgress:
            return True
        return self._encouraged() and votes

    def _encouraged(self) -> bool:
        now, term = library.monotonicTime(), self.raftCurrentTerm + 1
        if self.canvass.won(self.voters, term):
            self.canvass.end()
            return True
        if now >= self.canvass.over_at:
            self.canvass.begin(term, now + self._SyncObj__generateRaftTimeout() * _ROUND)
            ask = PreVote(term, self.canvass.round, self.log.last, self.log[-1][2])
            for node in sorted(self.otherNodes, key=lambda node: node.id):
                self.network.post(node.id, ask)
        return False

    def _heard_leader(self) -> None:
        self._heard_at = library.monotonicTime()
        self.canvass.end()

    def _advise(self, node_id: str, ask: PreVote) -> None:
        """Answer whether that member should stand; a leader heard within the shortest time-out speaks against it."""
        lately = library.monotonicTime() - self.conf.raftMinTimeout + self.conf.appendEntriesPeriod
        led = self._isLeader() or (self._SyncObj__raftLeader is not None and self._heard_at > lately)
        standing = Standing(self.raftCurrentTerm, self.log.last, self.log[-1][2], led)
        self.network.post(node_id, self._naming_leader(advise(standing, ask)))

    def _naming_leader(self, answer: PreVoted) -> PreVoted:
        leader = self._SyncObj__raftLeader
        address = self.configuration.get(leader.id, "") if leader is not None else ""
        return replace(answer, leader=leader.id, address=address) if leader is not None and address else answer

    def _advised(self, node_id: str, answer: PreVoted) -> None:
        self._catch_up(answer.term)
        self.canvass.note(node_id, answer)

    def resume(self) -> None:
        """Take part again; who votes alone need not wait to see whether there is a leader."""
        self.stalled = False
        if not self.otherNodes:
            self._SyncObj__raftElectionDeadline = 0.0

    def _catch_up(self, term: int) -> None:
        """A member is in a later term: whatever this node was in its own is over."""
        if term <= self.raftCurrentTerm:
            return
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
