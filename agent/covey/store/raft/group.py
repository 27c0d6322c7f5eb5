# SPDX-License-Identifier: GPL-3.0-or-later
"""Who votes, who learns, who leaves: pysyncobj's members by our rules; uses its private names as ``core``.

A newcomer is sent the log, or a snapshot, before anything depends on it.  One whose vote is taken away is kept on the
line until that is committed, so that it can be told.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pysyncobj.syncobj as library
from pysyncobj.node import Node

from covey.store.raft.election import FOLLOWER, Electing
from covey.store.raft.membership import Change, decode_change, node_of
from covey.store.raft.wire import PreVoted, Removed, TimeoutNow

_log = logging.getLogger(__name__)

#: Seconds for which a newcomer is sent the log although nobody asks for its vote any more.
INTEREST = 30.0


@dataclass(slots=True)
class _Learner:
    address: str
    asked_at: float


class Group(Electing):
    """The part of a core that knows the other members; attributes are set by the core before SyncObj's own start."""

    applied_members: dict[str, str]
    #: The newest message of this leadership that each follower has answered.
    acknowledged: dict[str, int]
    _peers: dict[str, str]
    _changed_at: int
    _admitted: set[str]
    _leaving: dict[str, str]
    _learners: dict[Node, _Learner]
    #: Leaders that are let in on the word of a voter, though not in our log.
    _guests: dict[str, str]

    @property
    def settled(self) -> bool:
        """Whether this node leads and has applied the first entry of its term: it has seen all there is."""
        noop = self._SyncObj__noopIDx
        return self._isLeader() and noop is not None and self.raftLastApplied >= noop

    def followers(self) -> list[Node]:
        """Whom a leader sends the log, in a fixed order."""
        return sorted({*self.otherNodes, *self._learners}, key=lambda node: node.id)

    def reachable(self) -> frozenset[str]:
        """The members that answered this leader lately, itself included; a new one believes in all of them at first."""
        horizon = library.monotonicTime() - self.conf.leaderFallbackTimeout
        heard = self._SyncObj__lastResponseTime
        alive = {n.id for n in self.otherNodes if self.isNodeConnected(n) and heard.get(n, 0.0) > horizon}
        return frozenset(alive | {self.selfNode.id})

    def answering(self) -> frozenset[str]:
        """The ``reachable`` ones that have answered in this leadership: what a change of the voters is judged by."""
        return frozenset(each for each in self.reachable() if each in self.acknowledged or each == self.selfNode.id)

    # -- another leader

    def _heirs(self) -> list[Node]:
        """The followers that answer, who holds most at the end."""
        holds, answering = self._SyncObj__raftMatchIndex, self.reachable()
        return sorted((n for n in self.otherNodes if n.id in answering), key=lambda n: (holds.get(n, 0), n.id))

    def nudge_heir(self) -> None:
        """Ask a follower that holds everything to take over at once, if there is one."""
        for heir in self._heirs()[-1:]:
            self.transferLeadership(heir)

    def step_down(self) -> None:
        """Lead no longer; of the followers the one that holds most is asked to take over at once."""
        if self._SyncObj__raftLeader == self.selfNode:
            for heir in self._heirs()[-1:]:
                self.network.post(heir.id, TimeoutNow(self.raftCurrentTerm))
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None

    # -- learners

    def teach(self, raft_id: str, address: str) -> None:
        """Send that node what is in the log, from now on and as long as this is repeated."""
        node, now = Node(raft_id), library.monotonicTime()
        if node in self.otherNodes:
            return
        if node not in self._learners:
            self._SyncObj__raftNextIndex[node] = self.log.last + 1
            self._SyncObj__raftMatchIndex[node] = 0
        self._learners[node] = _Learner(address, now)
        self._connect()

    def holds(self, raft_id: str) -> int:
        """The index up to which that follower's log is known to be this leader's."""
        return self._SyncObj__raftMatchIndex.get(Node(raft_id), 0)

    def forget_learners(self, *, older_than: float = 0.0) -> None:
        """Send nothing any more to nodes whose vote nobody asked for in so many seconds."""
        horizon = library.monotonicTime() - older_than
        gone = [node for node, learner in self._learners.items() if learner.asked_at <= horizon]
        for node in gone:
            del self._learners[node]
            if node not in self.otherNodes:
                self._SyncObj__raftNextIndex.pop(node, None)
                self._SyncObj__raftMatchIndex.pop(node, None)
        if gone:
            self._connect()

    # -- guests

    def _advised(self, node_id: str, answer: PreVoted) -> None:
        """Count the answer, and let the leader in that it names.

        A member that was away while another one was added and began to lead knows nothing of it, refuses its
        connections, and with pre-vote never forces it to give way: it would stay behind for ever.
        """
        if answer.leader and answer.leader not in {self.selfNode.id, *self.configuration}:
            self._guests[answer.leader] = answer.address
            self._connect()
        super()._advised(node_id, answer)

    # -- voters

    def _reconfigure(self) -> None:
        """Make pysyncobj and the network follow ``configuration``; until we are in it, also the peers we were given."""
        known = {node: (self._SyncObj__raftNextIndex[node], self.holds(node.id)) for node in self._learners}
        members = self._others()
        self._SyncObj__updateClusterConfiguration([Node(raft_id) for raft_id in members])
        now = library.monotonicTime()
        for raft_id in members:
            self._SyncObj__lastResponseTime.setdefault(Node(raft_id), now)
        for node, (following, matching) in known.items():
            self._SyncObj__raftNextIndex[node], self._SyncObj__raftMatchIndex[node] = following, matching
            if node in self.otherNodes:
                del self._learners[node]
        for raft_id in self._guests.keys() & self.configuration.keys():
            del self._guests[raft_id]
        self._connect()

    def _others(self) -> dict[str, str]:
        members = dict(self.configuration)
        if self.selfNode.id not in members:
            members = self._peers | members
        members.pop(self.selfNode.id, None)
        return members

    def _connect(self) -> None:
        """Talk with whom there is something to talk about, and not with former selves."""
        learners = {node.id: learner.address for node, learner in self._learners.items()}
        wanted = self._leaving | learners | self._guests | self._others()
        wanted = {each: address for each, address in wanted.items() if not (self.dismissed or self._is_me(each))}
        for raft_id in self._admitted - wanted.keys():
            self.network.expel(raft_id)
        for raft_id, address in wanted.items():
            self.network.admit(raft_id, address)
        self._admitted = set(wanted)

    def _go(self, index: int) -> None:
        """The vote was taken away: nobody here is spoken with any more."""
        _log.warning("this manager's vote was taken away by entry %d", index)
        self.dismissed = True
        self.step_down()
        self._connect()

    def _is_me(self, raft_id: str) -> bool:
        return node_of(raft_id) == node_of(self.selfNode.id)

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> Change | None:
        return decode_change(command)

    def _SyncObj__changeCluster(self, change: Change) -> bool:
        """A leader's own change: one at a time, and only once it knows all earlier ones."""
        if not self.settled or self.raftLastApplied < self._changed_at:
            return False
        if not self._SyncObj__doChangeCluster(change):
            return False
        self._changed_at = self.log.last + 1
        return True

    def _SyncObj__doChangeCluster(self, change: Change, reverse: bool = False) -> bool:
        after = change.apply(self.configuration, reverse=reverse)
        if after == self.configuration:
            return False
        if not change.add and not reverse:
            self._leaving[change.node_id] = self.configuration[change.node_id]
        else:
            self._leaving.pop(change.node_id, None)
        self.configuration = after
        self._reconfigure()
        return True

    def _applied(self, change: Change, index: int) -> None:
        """The change is committed: who has lost its vote by it is told, and its connection ends."""
        self.applied_members = change.apply(self.applied_members)
        if self._leaving.pop(change.node_id, None) is not None:
            if self._isLeader():
                self.network.post(change.node_id, Removed(index))
            self._connect()
