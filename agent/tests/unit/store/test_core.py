# SPDX-License-Identifier: GPL-3.0-or-later
"""One core alone, spoken to by hand: the cases of raft.md in which stock pysyncobj lost acknowledged writes."""

import os
import subprocess
import sys
from concurrent.futures import Future

import pysyncobj.syncobj as library
import pytest

from covey.model.errors import FailedPrecondition
from covey.store.raft.compaction import Policy
from covey.store.raft.core import Core
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Driver
from covey.store.raft.membership import Change, encode_change, first_entries, joiner_entries
from covey.store.raft.timings import Timings
from covey.store.raft.wire import Ack, Append, Beat, Chunk, PreVote, PreVoted, Removed, RequestVote, Vote
from tests.unit.store.faults import FailingFiles


class Machine:
    """Counts what it is given."""

    def __init__(self):
        self.commands = []

    def apply(self, index, command):
        self.commands.append((index, command))
        return index

    def state(self):
        return tuple(self.commands)

    def dump(self, state):
        return iter([repr(state).encode()])

    def restore(self, chunks):
        self.commands = [("restored", b"".join(chunks))]


class Wire:
    """Keeps what was sent."""

    def __init__(self):
        self.sent, self.known = [], {}

    def post(self, node_id, message):
        self.sent.append((node_id, message))
        return True

    def asked(self):
        return True

    def room(self, node_id):
        return True

    def admit(self, node_id, address):
        self.known[node_id] = address

    def expel(self, node_id):
        self.known.pop(node_id, None)

    def take(self):
        sent, self.sent = self.sent, []
        return sent


class Member:
    """A core with its disk."""

    def __init__(self, directory, node_id, initial=None):
        self.disk = Disk(directory, node_id, FailingFiles(), os.urandom)
        self.disk.open(initial)
        self.wire, self.machine = Wire(), Machine()

        def background(work):
            done = Future()
            done.set_result(work())
            return done

        self.core = Core(
            node_id,
            self.disk.log,
            self.disk.snapshots,
            self.machine,
            self.wire,
            peers={"leader": "l:1", "rival": "r:1"},
            timings=Timings(),
            background=background,
            policy=Policy(),
        )
        self.driver = Driver(self.core)

    def hears(self, node_id, *messages):
        """What it answers to these, the disk included."""
        for message in messages:
            self.core.receive(node_id, message)
        self.driver.tick()
        return [message for to, message in self.wire.take() if to == node_id]

    def settle(self):
        """Tick while there is something to do at once."""
        while self.driver.tick():
            pass

    def crash(self):
        """End without a last word."""
        self.disk.release()


@pytest.fixture
def now(monkeypatch):
    """The time, which stands still unless it is moved."""
    clock = [100.0]
    monkeypatch.setattr(library, "monotonicTime", lambda: clock[0])
    return clock


@pytest.fixture
def follower(tmp_path, now):
    member = Member(tmp_path / "follower", "follower", joiner_entries())
    yield member
    member.crash()


@pytest.fixture
def lone(tmp_path, now):
    member = Member(tmp_path / "lone", "lone", first_entries("lone", "lone:1"))
    yield member
    member.crash()


def entries(first, last, term=1):
    return [(b"\x00%08d" % index, index, term) for index in range(first, last + 1)]


def append(prev, last, commit, seq, *, term=1, prev_term=None):
    if prev_term is None:
        prev_term = 1 if prev > 1 else 0
    return Append(term, commit, seq, prev, prev_term, entries(prev + 1, last, term))


def test_a_duplicate_append_costs_nothing_that_was_acknowledged(follower):
    assert follower.hears("leader", append(1, 30, 1, 1)) == [Ack(1, 1, 31, False, True)]
    follower.hears("leader", append(30, 30, 30, 2))
    assert follower.core.raftLastApplied == 30
    assert follower.hears("leader", append(20, 25, 30, 3)) == [Ack(1, 3, 26, False, True)]
    assert (follower.disk.log.last, follower.core.raftCommitIndex) == (30, 30)
    assert follower.hears("rival", RequestVote(2, 25, 1)) == []
    assert follower.hears("rival", RequestVote(3, 30, 1)) == [Vote(3)]


def test_a_success_is_told_only_once_the_disk_has_it(follower):
    follower.core.receive("leader", append(1, 3, 1, 1))
    assert follower.wire.take() == []
    assert follower.disk.log.dirty
    follower.driver.tick()
    assert follower.wire.take() == [("leader", Ack(1, 1, 4, False, True))]
    assert not follower.disk.log.dirty


def test_a_success_that_was_held_is_not_told_to_the_leader_of_a_past_term(follower):
    sent = follower.hears("leader", append(1, 3, 1, 1), append(1, 2, 1, 2, term=2))
    assert sent == [Ack(2, 2, 3, False, True)]


def test_a_vote_is_on_the_disk_before_it_is_given(tmp_path, follower):
    assert follower.hears("rival", RequestVote(5, 1, 0)) == [Vote(5)]
    follower.crash()
    again = Member(tmp_path / "follower", "follower")
    assert again.hears("leader", RequestVote(5, 1, 0)) == []
    again.crash()


def test_messages_of_a_past_term_change_nothing_but_their_sender_learns_the_term(follower):
    follower.hears("leader", append(1, 5, 1, 1, term=3))
    later = [Ack(3, 1, 0, False, False), Ack(3, 2, 0, False, False)]
    assert follower.hears("rival", append(1, 2, 5, 1, term=2), Beat(2, 5, 2)) == later
    assert follower.disk.log.last == 5
    assert follower.core.raftCommitIndex == 1


def test_chunks_commit_nothing_of_the_own_tail(follower):
    follower.hears("leader", append(1, 10, 2, 1))
    follower.hears("rival", Chunk(2, 10, 1, 50, 2, 0, False, b"part"))
    assert follower.core.raftCommitIndex == 2
    assert follower.core.raftLastApplied == 2


def test_a_heartbeat_commits_nothing_by_itself(follower):
    follower.hears("leader", append(1, 5, 1, 1))
    follower.hears("leader", Beat(1, 5, 2))
    assert follower.core.raftCommitIndex == 1
    follower.hears("leader", append(5, 5, 5, 3, prev_term=1))
    assert follower.core.raftCommitIndex == 5


def test_a_change_of_the_voters_waits_for_the_first_entry_of_the_leadership(follower, now):
    elect(follower, now)
    assert not follower.core.settled
    found, answer = answers()
    follower.driver.change(Change(True, "z", "z:1"), answer)
    follower.driver.tick()
    assert [type(value) for value in found] == [FailedPrecondition]
    acknowledge(follower, "x")
    follower.driver.tick()
    assert follower.core.settled


def elect(follower, now):
    """It becomes the leader of three by the vote of one."""
    joins = [
        (encode_change(Change(True, name, f"{name}:1")), 2 + n, 1) for n, name in enumerate(("follower", "x", "y"))
    ]
    follower.hears("leader", Append(1, 1, 1, 1, 0, joins))
    for name in ("x", "y"):
        follower.core.connected(name)
    now[0] += 60
    follower.driver.tick()
    (ask,) = [message for to, message in follower.wire.take() if to == "x"]
    follower.hears("x", PreVoted(1, ask.round, True))
    follower.hears("x", Vote(2))
    assert follower.core._isLeader()


def test_who_is_not_a_voter_never_stands_for_election(follower, now):
    follower.core.connected("leader")
    for _ in range(100):
        now[0] += 0.1
        follower.driver.tick()
    assert follower.core.raftCurrentTerm == 0
    assert {type(message) for _, message in follower.wire.take()} == {PreVote}


def test_a_voter_does(follower, now):
    change = encode_change(Change(True, "follower", "f:1"))
    follower.hears("leader", Append(1, 2, 1, 1, 0, [(change, 2, 1)]))
    follower.core.connected("leader")
    now[0] += 5
    follower.driver.tick()
    assert follower.core.raftCurrentTerm == 2


def test_membership_counts_from_the_append_and_is_undone_by_a_truncation(follower):
    joins = [(encode_change(Change(True, name, f"{name}:1")), 2 + n, 1) for n, name in enumerate(("follower", "new"))]
    follower.hears("leader", Append(1, 1, 1, 1, 0, joins))
    assert set(follower.core.configuration) == {"follower", "new"}
    assert set(follower.wire.known) == {"new"}
    follower.hears("rival", Append(2, 1, 1, 2, 1, [(b"\x01", 3, 2)]))
    assert set(follower.core.configuration) == {"follower"}


def test_membership_is_known_again_after_a_restart_committed_or_not(tmp_path, follower):
    change = encode_change(Change(True, "new", "new:1"))
    follower.hears("leader", Append(1, 1, 1, 1, 0, [(change, 2, 1)]))
    follower.disk.close()
    again = Member(tmp_path / "follower", "follower")
    assert again.core.configuration == {"new": "new:1"}
    again.crash()


def answers():
    found = []
    return found, found.append


def test_a_lone_leader_answers_when_its_own_disk_has_it(lone):
    lone.settle()
    assert lone.core.settled
    found, answer = answers()
    lone.driver.propose(b"command", 0, answer)
    assert lone.driver.tick()
    assert found == []
    lone.driver.tick()
    assert found == [4]
    assert lone.machine.commands == [(4, b"command")]


def test_an_answer_that_raises_stops_the_member_but_applies_nothing_twice(lone):
    lone.settle()

    def answer(_):
        raise RuntimeError("the caller's fault")

    lone.driver.propose(b"command", 0, answer)
    with pytest.raises(RuntimeError):
        lone.settle()
    assert lone.machine.commands == [(4, b"command")]


def test_one_change_of_the_voters_at_a_time(lone):
    lone.settle()
    found, answer = answers()
    lone.driver.change(Change(True, "second", "s:1"), answer)
    lone.driver.tick()
    lone.driver.change(Change(True, "third", "t:1"), answer)
    lone.driver.tick()
    assert [str(value) for value in found] == ["another change of the managers is under way; try again when it is done"]
    assert set(lone.core.configuration) == {"lone", "second"}


def acknowledge(lone, node_id, index=None):
    """That member holds everything."""
    core = lone.core
    return lone.hears(node_id, Ack(core.raftCurrentTerm, core.outbox.seq, (index or core.log.last) + 1, False, True))


def test_a_learner_is_sent_the_log_and_nothing_depends_on_it(lone):
    lone.settle()
    lone.core.teach("second", "s:1")
    lone.core.connected("second")
    found, answer = answers()
    lone.driver.propose(b"command", 0, answer)
    lone.settle()
    assert found == [4]
    assert {type(message) for to, message in lone.wire.take() if to == "second"} == {Append}
    assert lone.core.voters == {"lone"}
    assert lone.core.holds("second") == 0
    acknowledge(lone, "second")
    assert lone.core.holds("second") == 4


def test_what_a_learner_holds_counts_as_soon_as_it_votes(lone):
    lone.settle()
    lone.core.teach("second", "s:1")
    lone.core.connected("second")
    acknowledge(lone, "second")
    held = lone.core.holds("second")
    lone.driver.change(Change(True, "second", "s:1"), lambda _: None)
    lone.driver.tick()
    assert lone.core.voters == {"lone", "second"}
    assert lone.core.holds("second") == held == lone.core.raftCommitIndex


def test_a_learner_that_nobody_asks_for_is_let_go(lone, now):
    lone.settle()
    lone.core.teach("second", "s:1")
    assert set(lone.wire.known) == {"second"}
    now[0] += 31
    lone.driver.tick()
    assert not lone.wire.known


def test_who_loses_its_vote_is_told_once_that_is_committed(lone):
    lone.settle()
    for name in ("second", "third"):
        lone.driver.change(Change(True, name, f"{name}:1"), lambda _: None)
        lone.driver.tick()
        lone.core.connected(name)
        for other in lone.core.voters - {"lone"}:
            acknowledge(lone, other)
        lone.settle()
    lone.wire.take()
    lone.driver.change(Change(False, "third", "third:1"), lambda _: None)
    lone.driver.tick()
    assert set(lone.wire.known) == {"second", "third"}
    assert not [message for _, message in lone.wire.take() if isinstance(message, Removed)]
    lone.core.receive(
        "second", Ack(lone.core.raftCurrentTerm, lone.core.outbox.seq, lone.core.log.last + 1, False, True)
    )
    lone.driver.tick()
    assert ("third", Removed(lone.core.log.last)) in lone.wire.take()
    assert set(lone.wire.known) == {"second"}


def test_who_is_told_that_its_vote_is_gone_speaks_with_nobody_and_never_stands(follower, now):
    joins = [(encode_change(Change(True, name, f"{name}:1")), 2 + n, 1) for n, name in enumerate(("follower", "new"))]
    follower.hears("leader", Append(1, 1, 1, 1, 0, joins))
    assert follower.hears("leader", Removed(4)) == []
    now[0] += 60
    follower.driver.tick()
    assert follower.core.raftCurrentTerm == 1
    assert follower.core.leader is None
    assert "vote was taken away" in follower.driver.trouble
    assert not follower.wire.known


def test_only_members_decide_an_election(follower, now):
    joins = [
        (encode_change(Change(True, name, f"{name}:1")), 2 + n, 1) for n, name in enumerate(("follower", "x", "y"))
    ]
    follower.hears("leader", Append(1, 1, 1, 1, 0, joins))
    follower.core.connected("x")
    now[0] += 60
    follower.driver.tick()
    (ask,) = [message for to, message in follower.wire.take() if to == "x"]
    follower.hears("stranger", PreVoted(1, ask.round, True))
    assert follower.core.raftCurrentTerm == 1
    follower.hears("x", PreVoted(1, ask.round, True))
    assert follower.core.raftCurrentTerm == 2
    follower.hears("stranger", Vote(2))
    assert not follower.core._isLeader()
    follower.hears("x", Vote(2))
    assert follower.core._isLeader()


def test_a_new_leader_counts_on_nobody_that_it_has_not_heard(follower, now):
    elect(follower, now)
    assert follower.core.answering() == {"follower"}
    acknowledge(follower, "x")
    assert follower.core.answering() == {"follower", "x"}
    now[0] += 2
    assert follower.core.answering() == {"follower"}


def test_a_former_self_counts_but_is_not_dialled(tmp_path, now):
    member = Member(tmp_path / "again", "node.2", joiner_entries())
    member.hears("leader", Append(1, 1, 1, 1, 0, [(encode_change(Change(True, "node.1", "n:1")), 2, 1)]))
    assert set(member.core.configuration) == {"node.1"}
    assert set(member.wire.known) == {"leader", "rival"}
    member.crash()


def test_while_the_lead_is_handed_over_writes_wait_and_are_lost_on_nobody(lone):
    lone.settle()
    lone.core.paused = True
    found, answer = answers()
    lone.driver.propose(b"command", 0, answer)
    lone.settle()
    assert found == []
    lone.core.paused = False
    lone.settle()
    assert found == [4]


def test_too_many_waiting_writes_are_turned_away(lone):
    found, answer = answers()
    for _ in range(4097):
        lone.driver.propose(b"command", 0, answer)
    assert "4096 writes are waiting" in str(found[0])


def test_a_read_needs_the_word_of_a_majority_after_it_was_asked(lone):
    lone.settle()
    lone.driver.change(Change(True, "second", "s:1"), lambda _: None)
    lone.driver.tick()
    lone.core.connected("second")
    sent = lone.hears("second")
    reads, answer = answers()
    lone.driver.barrier(answer)
    lone.driver.tick()
    assert reads == []
    old = Ack(lone.core.raftCurrentTerm, max([m.seq for m in sent], default=0), lone.disk.log.last + 1, False, True)
    lone.hears("second", old)
    assert reads == []
    lone.hears("second", Ack(old.term, lone.core.outbox.seq, old.next_index, False, True))
    lone.driver.tick()
    assert reads == [lone.core.raftLastApplied]


def test_another_release_of_pysyncobj_is_refused():
    other = "import pysyncobj.syncobj as library; library.VERSION = '0.3.18'; import covey.store.raft.core"
    refused = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
    assert "ImportError: pysyncobj 0.3.18 is installed, but the store is made for 0.3.17 and no other" in refused.stderr
