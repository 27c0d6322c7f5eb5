# SPDX-License-Identifier: GPL-3.0-or-later
"""The only user of pysyncobj: its election, commit and apply rules, with everything else replaced.

Of SyncObj 0.3.17 remain voting, accepting entries, counting a majority and calling ``apply`` in order.  Its transport,
journal, serializer, command queue, membership and sending are ours, put in through its private names; hence the exact
version.  One thread owns all of this.  Nothing here waits, opens a socket or reads a file of its own accord.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysyncobj.syncobj as library
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import Node
from pysyncobj.syncobj import VERSION

from covey.store.raft.compaction import Compaction, Policy
from covey.store.raft.group import INTEREST, Group
from covey.store.raft.log import Log
from covey.store.raft.machine import Machine
from covey.store.raft.membership import REGULAR, decode_change, members_after
from covey.store.raft.outbox import Network, Outbox
from covey.store.raft.prevote import Canvass
from covey.store.raft.shim import Follower, Progress, on_append, on_chunk
from covey.store.raft.snapshot import Mark, Snapshots
from covey.store.raft.streams import Incoming, Outgoing
from covey.store.raft.timings import Timings, configuration
from covey.store.raft.wire import (
    BATCH_BYTES,
    Ack,
    AnyMessage,
    Append,
    Beat,
    Chunk,
    Removed,
)

if VERSION != "0.3.17":
    raise ImportError(f"pysyncobj {VERSION} is installed, but the store is made for 0.3.17 and no other")

_log = logging.getLogger(__name__)

#: What became of a proposal: its result, or pysyncobj's reason why there is none.
Reply = Callable[[Any, int], None]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A command for the log; ``fence`` is the term it was decided in, 0 for any."""

    command: bytes
    fence: int
    reply: Reply


#: Why there is no result: our own reasons, apart from pysyncobj's.  Only of ``UNKNOWN`` may something come yet.
SUCCESS, REPLACED, DENIED = FAIL_REASON.SUCCESS, FAIL_REASON.DISCARDED, FAIL_REASON.REQUEST_DENIED
NOT_LEADER, UNKNOWN = 100, 101


class _NoPoller:
    """pysyncobj polls no sockets here."""

    def poll(self, _timeout: float) -> None:
        """Nothing."""


class Core(Group):
    """One member's Raft."""

    def __init__(  # noqa: PLR0913 - the parts of a core are these
        self,
        node_id: str,
        log: Log,
        snapshots: Snapshots,
        machine: Machine,
        network: Network,
        *,
        peers: Mapping[str, str],
        timings: Timings,
        background: Callable[[Callable[[], Path]], Future[Path]],
        policy: Policy,
    ) -> None:
        me = Node(node_id)
        self.log, self.machine, self.network = log, machine, network
        self.outbox = Outbox(network, me, lambda: self.raftCurrentTerm)
        self.snapshots = snapshots
        self.compaction = Compaction(log, snapshots, machine, background, policy)
        self.incoming = Incoming(snapshots)
        self.outgoing: dict[Node, Outgoing] = {}
        self.progress: dict[str, Progress] = {}
        self.acknowledged: dict[str, int] = {}
        self.proposals: list[Proposal] = []
        self.canvass, self._heard_at, self.stalled = Canvass(), 0.0, False
        self._peers = dict(peers)
        mark = snapshots.mark
        self.applied_members: dict[str, str] = dict(mark.members) if mark else {}
        beyond = log[max(0, (mark.index if mark else 0) + 1 - log.first) :]
        self.configuration = members_after(self.applied_members, beyond)
        self._changed_at, self.dismissed, self.paused = 0, False, False
        self._admitted: set[str] = set()
        self._leaving, self._learners, self._guests = {}, {}, {}
        super().__init__(me, [], configuration(timings), nodeClass=Node, transport=self.outbox)
        self._adopt(mark)

    def _adopt(self, mark: Mark | None) -> None:
        """Put our parts where pysyncobj keeps its own, as it does when it loads its files."""
        self._poller = _NoPoller()
        self._SyncObj__raftLog = self.log
        self._SyncObj__raftCurrentTerm = max(self.log.getCurrentTerm(), self.log[-1][2])
        self._SyncObj__votedForNodeId = self.log.getVotedForNodeId()
        self._SyncObj__raftLastApplied = mark.index if mark else 1
        self._SyncObj__raftCommitIndex = max(self.log.getRaftCommitIndex(), self._SyncObj__raftLastApplied)
        self._reconfigure()
        if not self.otherNodes:
            self._SyncObj__raftElectionDeadline = 0.0

    # -- asking

    @property
    def leader(self) -> str | None:
        """The leader's id, as far as known; None also if it was silent for as long as it would lead without a majority.

        Who hears nobody at all does not stand for election either, and would believe in its last leader for ever.
        """
        node = self._SyncObj__raftLeader
        if node is None or node == self.selfNode:
            return node.id if node is not None else None
        silent = library.monotonicTime() - self._heard_at > self.conf.leaderFallbackTimeout
        return None if silent else node.id

    def confirmed(self, seq: int) -> bool:
        """Whether a majority has answered a message numbered ``seq`` or later in this term."""
        count = 1 + sum(1 for node in self.otherNodes if self.acknowledged.get(node.id, -1) >= seq)
        return count > len(self.voters) // 2

    @property
    def waiting(self) -> bool:
        """Whether a lone leader has entries that its next tick commits."""
        return self._isLeader() and not self.otherNodes and self.raftCommitIndex < self.log.last

    # -- what other members say

    def receive(self, node_id: str, message: AnyMessage) -> None:
        """Take in one message of a member; OSError if there is no room for what it brings."""
        node = Node(node_id)
        match message:
            case Append() | Chunk() | Beat() if message.term < self.raftCurrentTerm:
                self.network.post(node_id, Ack(self.raftCurrentTerm, message.seq, 0, False, False))
            case Append() | Chunk() if self.stalled:
                self._deliver(node, Beat(message.term, min(message.commit, self.raftCommitIndex), message.seq))
            case Append():
                self.outbox.heard(node_id, message.seq)
                verdict = on_append(self._standing(), message)
                self._deliver(node, verdict.deliver)
                self._answer(node_id, verdict.ack)
            case Chunk():
                self.outbox.heard(node_id, message.seq)
                self._receive_chunk(node, message)
            case Beat():
                self._deliver(node, Beat(message.term, min(message.commit, self.raftCommitIndex), message.seq))
            case Ack():
                self._receive_ack(node, message)
            case Removed():
                self._go(message.index)
            case _:
                self._campaign(node, message)

    def connected(self, node_id: str) -> None:
        """There is a way to that member."""
        self.outbox._onNodeConnected(Node(node_id))

    def disconnected(self, node_id: str) -> None:
        """There is none any more; a snapshot on its way there starts again."""
        self.outgoing.pop(Node(node_id), None)
        self.outbox._onNodeDisconnected(Node(node_id))

    def _standing(self) -> Follower:
        return Follower(self.log, self.raftCurrentTerm, max(self.raftCommitIndex, self.raftLastApplied))

    def _deliver(self, node: Node, message: Append | Beat) -> None:
        body: dict[str, Any] = {"type": "append_entries", "term": message.term, "commit_index": message.commit}
        if isinstance(message, Append):
            body |= {
                "prevLogIdx": message.prev_index,
                "prevLogTerm": message.prev_term,
                "entries": message.entries,
            }
        self.outbox._onMessageReceived(node, body)
        self._heard_leader()

    def _answer(self, node_id: str, ack: Ack | None) -> None:
        if ack is None:
            return
        if ack.success:
            self.outbox.hold(node_id, ack)
        else:
            self.network.post(node_id, ack)

    def _receive_chunk(self, node: Node, message: Chunk) -> None:
        verdict = on_chunk(self._standing(), message)
        self._deliver(node, verdict.beat)
        path = self.incoming.take(node.id, message) if verdict.take else None
        self._answer(node.id, verdict.ack)
        if path is not None:
            self._install(path)
            self.outbox.hold(node.id, Ack(message.term, message.seq, message.index + 1, False, True))

    def _install(self, path: Path) -> None:
        """Become what the leader's snapshot says; the caller made sure that it is ahead of us."""
        mark, chunks = self.incoming.mark_of(path)
        if not self.snapshots.install(path, mark):
            return
        _log.info("state at entry %d received from the leader", mark.index)
        self.machine.restore(chunks)
        self.log.restart(mark.previous, mark.entry)
        self._SyncObj__raftLastApplied = mark.index
        self._SyncObj__raftCommitIndex = mark.index
        self.log.setRaftCommitIndex(mark.index)
        self.abandon_waiting()
        self.applied_members = dict(mark.members)
        self.configuration = dict(mark.members)
        self._leaving.clear()
        self._guests.clear()
        self._reconfigure()

    def _receive_ack(self, node: Node, ack: Ack) -> None:
        progress = self.progress.setdefault(node.id, Progress())
        if node not in self._SyncObj__raftMatchIndex or not self._isLeader():
            return
        if ack.term > self.raftCurrentTerm and node in self.otherNodes:
            self._catch_up(ack.term)
            return
        if not progress.accepts(ack, self.raftCurrentTerm, self.outbox.seq):
            return
        self.acknowledged[node.id] = max(self.acknowledged.get(node.id, -1), ack.seq)
        following = self._SyncObj__raftNextIndex
        before = following[node]
        body = {"type": "next_node_idx", "next_node_idx": ack.next_index, "reset": ack.reset, "success": ack.success}
        self.outbox._onMessageReceived(node, body)
        if not ack.reset and following.get(node, before) < before:
            following[node] = before

    # -- what this member says

    def replicate(self, *, beat: bool) -> None:
        """Send every connected follower what it lacks; with ``beat`` also those that lack nothing."""
        for node in self.followers():
            if not self.isNodeConnected(node):
                self.outgoing.pop(node, None)
            elif self._SyncObj__raftNextIndex[node] > self.log.first:
                self.outgoing.pop(node, None)
                self._send_entries(node, beat=beat)
            else:
                self._send_snapshot(node, beat=beat)

    def _send_entries(self, node: Node, *, beat: bool) -> None:
        start = self._SyncObj__raftNextIndex[node]
        while (start <= self.log.last and self.network.room(node.id)) or beat:
            beat = False
            entries = self.log.entries_from(start, BATCH_BYTES) if self.network.room(node.id) else []
            prev_term = self.log.term_at(start - 1)
            if prev_term is None:
                raise AssertionError(f"{node.id} is said to want entry {start}, which never was")
            self.network.post(
                node.id,
                Append(
                    self.raftCurrentTerm, self.raftCommitIndex, self.outbox.next_seq(), start - 1, prev_term, entries
                ),
            )
            start += len(entries)
            self._SyncObj__raftNextIndex[node] = start

    def _send_snapshot(self, node: Node, *, beat: bool) -> None:
        stream = self.outgoing.get(node)
        if stream is None:
            stream = self.outgoing[node] = Outgoing(self.snapshots)
        while self.network.room(node.id):
            piece = stream.piece()
            if piece is None:
                raise AssertionError("the last piece ends the stream")
            mark, term, commit = piece.mark, self.raftCurrentTerm, self.raftCommitIndex
            seq = self.outbox.next_seq()
            self.network.post(
                node.id, Chunk(term, commit, seq, mark.index, mark.term, piece.number, piece.last, piece.data)
            )
            beat = False
            if piece.last:
                del self.outgoing[node]
                self._SyncObj__raftNextIndex[node] = mark.index + 1
                return
        if beat:
            self.network.post(node.id, Beat(self.raftCurrentTerm, self.raftCommitIndex, self.outbox.next_seq()))

    def abandon_waiting(self) -> None:
        """Tell everybody who waits for an entry that its outcome is unknown."""
        waiting = self._SyncObj__commandsWaitingCommit
        for index in sorted(waiting):
            for _, reply in waiting[index]:
                reply(None, UNKNOWN)
        waiting.clear()

    # -- what pysyncobj calls instead of its own

    def _SyncObj__onBecomeLeader(self) -> None:
        self.progress.clear()
        self.forget_learners()
        self.acknowledged.clear()
        self.outgoing.clear()
        super()._SyncObj__onBecomeLeader()
        self.log.sync()

    def _SyncObj__sendAppendEntries(self) -> None:
        self._SyncObj__newAppendEntriesTime = library.monotonicTime() + self.conf.appendEntriesPeriod
        self.forget_learners(older_than=INTEREST)
        self.replicate(beat=True)

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:
        index = self.raftLastApplied + 1
        if command[0] == REGULAR:
            return self.machine.apply(index, command[1:])
        change = decode_change(command)
        if change is not None:
            self._applied(change, index)
        return index

    def _SyncObj__tryLogCompaction(self) -> None:
        self.compaction.step(self.raftLastApplied, self.applied_members, leading=self._isLeader())

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        raise AssertionError("snapshots do not pass through pysyncobj")

    def _checkCommandsToApply(self) -> None:
        """Append what was proposed since the last tick; the caller makes it durable and sends it.

        While ``paused`` it waits: for another leader, or for the pause to end.
        """
        if self.paused and self._isLeader():
            return
        proposals, self.proposals = self.proposals, []
        for proposal in proposals:
            if not self._isLeader() or proposal.fence not in (0, self.raftCurrentTerm):
                proposal.reply(None, NOT_LEADER)
                continue
            self._append(proposal)

    def _append(self, proposal: Proposal) -> None:
        change = decode_change(proposal.command)
        if change is not None and not self._SyncObj__changeCluster(change):
            proposal.reply(None, DENIED)
            return
        index, term = self.log.last + 1, self.raftCurrentTerm
        self.log.add(proposal.command, index, term)
        self._SyncObj__commandsWaitingCommit[index].append((term, proposal.reply))
