# SPDX-License-Identifier: GPL-3.0-or-later
"""The log and the vote: whatever was synced is there after a crash at any call to the kernel."""

import os

import pytest

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.journal import JournalFile
from covey.store.raft.log import HardState, Log
from tests.unit.store.faults import FailingFiles, Plug

KEY = Secret(bytes(range(32)))


def make(directory, files=None, node_id="node-a"):
    files = files or FailingFiles()
    hard = HardState(directory / "hard", KEY, files, os.urandom)
    return Log(JournalFile(directory / "journal", KEY, files, os.urandom), hard, node_id)


def loaded(directory, **kwargs):
    log = make(directory, **kwargs)
    log.load()
    return log


def created(directory, files=None):
    log = make(directory, files)
    log.create([(b"\x01", 1, 0)])
    return log


def add(log, count, term=1):
    for _ in range(count):
        log.add(b"\x00%d" % log.last, log.last + 1, term)


def indexes(log):
    return [(index, term) for _, index, term in log[:]]


def test_entries_are_durable_after_sync_and_not_before(tmp_path):
    log = created(tmp_path)
    add(log, 3)
    log.sync()
    add(log, 2)
    assert indexes(loaded(tmp_path)) == [(1, 0), (2, 1), (3, 1), (4, 1)]


def test_truncating_and_adding_between_two_syncs_is_one_record(tmp_path):
    log = created(tmp_path)
    add(log, 5)
    log.sync()
    log.deleteEntriesFrom(3)
    add(log, 1, term=2)
    log.deleteEntriesFrom(2)
    add(log, 2, term=3)
    log.sync()
    assert indexes(loaded(tmp_path)) == [(1, 0), (2, 1), (3, 3), (4, 3)]


def test_compaction_keeps_the_rest(tmp_path):
    log = created(tmp_path)
    add(log, 9)
    log.drop_before(6)
    log.sync()
    add(log, 1)
    log.sync()
    again = loaded(tmp_path)
    assert (again.first, again.last) == (6, 11)
    assert again.term_at(5) is None
    assert again.term_at(6) == 1
    assert again.term_at(12) is None


def test_entries_for_a_batch_stop_at_its_size_but_give_at_least_one(tmp_path):
    log = created(tmp_path)
    for size in (10, 10, 100, 10):
        log.add(b"x" * size, log.last + 1, 1)
    assert [entry[1] for entry in log.entries_from(2, 25)] == [2, 3]
    assert [entry[1] for entry in log.entries_from(4, 25)] == [4]
    assert log.entries_from(6, 25) == []


def test_term_and_vote_are_durable_when_set_and_the_log_with_them(tmp_path):
    log = created(tmp_path)
    add(log, 1)
    log.setCurrentTerm(7, "node-b")
    again = loaded(tmp_path)
    assert (again.getCurrentTerm(), again.getVotedForNodeId(), again.last) == (7, "node-b", 2)


def test_the_commit_index_is_saved_now_and_then_and_never_beyond_the_log(tmp_path):
    log = created(tmp_path)
    add(log, 3)
    log.sync()
    log.setRaftCommitIndex(3)
    log.onOneSecondTimer()
    assert loaded(tmp_path).getRaftCommitIndex() == 3
    log.setRaftCommitIndex(9)
    log.onOneSecondTimer()
    assert loaded(tmp_path).getRaftCommitIndex() == 4


def test_the_state_of_another_node_is_refused(tmp_path):
    created(tmp_path).close()
    with pytest.raises(BadState, match="belongs to node node-a, not to this node node-b"):
        loaded(tmp_path, node_id="node-b")


def test_a_truncated_journal_is_refused_wherever_it_ends(tmp_path):
    log = created(tmp_path)
    for _ in range(3):
        add(log, 2)
        log.sync()
    log.setRaftCommitIndex(5)
    log.close()
    whole = (tmp_path / "journal").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "journal").write_bytes(whole[:cut])
        with pytest.raises(BadState, match="journal"):
            loaded(tmp_path)
        assert (tmp_path / "journal").read_bytes() == whole[:cut]


def test_an_older_journal_is_refused(tmp_path):
    log = created(tmp_path)
    add(log, 4)
    log.sync()
    old = (tmp_path / "journal").read_bytes()
    for _ in range(2):
        log.drop_before(log.first + 1)
        log.sync()
    log.close()
    (tmp_path / "journal").write_bytes(old)
    with pytest.raises(BadState, match="not the journal"):
        loaded(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\x00"])
def test_a_damaged_vote_is_refused(tmp_path, damage):
    created(tmp_path).close()
    (tmp_path / "hard").write_bytes(damage((tmp_path / "hard").read_bytes()))
    with pytest.raises(BadState, match="hard"):
        loaded(tmp_path)


class Life:
    """Everything a log goes through, remembering what it was promised to keep."""

    def __init__(self, directory, files):
        self.log = make(directory, files)
        self.safe, self.vote = None, (0, None)
        self.possible = []

    def run(self):
        self._step(lambda: self.log.create([(b"\x01", 1, 0)]), [(1, 0)])
        for _ in range(2):
            self._change(lambda: add(self.log, 3, term=1))
        self._vote(2, "node-b")
        self._change(lambda: self.log.deleteEntriesFrom(len(self.log) - 2))
        self._change(lambda: add(self.log, 2, term=2))
        self._change(lambda: self.log.drop_before(self.log.first + 3))
        self._change(lambda: add(self.log, 2, term=2))
        self._vote(3, None)
        self._change(lambda: self.log.restart((b"a", 20, 3), (b"b", 21, 3)))
        self._change(lambda: add(self.log, 1, term=3))
        self.log.close()

    def _change(self, change):
        change()
        self._step(self.log.sync, indexes(self.log))

    def _step(self, act, after):
        self.possible = [after]
        act()
        self.safe, self.possible = after, []

    def _vote(self, term, vote):
        before, self.vote = self.vote, None
        self.votes = (before, (term, vote))
        self.log.setCurrentTerm(term, vote)
        self.vote = (term, vote)


def test_a_crash_at_any_call_loses_nothing_that_was_synced(tmp_path):
    calls = FailingFiles()
    (tmp_path / "whole").mkdir()
    Life(tmp_path / "whole", calls).run()
    assert calls.calls > 40
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        directory.mkdir()
        life = Life(directory, FailingFiles(at))
        with pytest.raises(Plug):
            life.run()
        if life.safe is None:
            assert HardState(directory / "hard", KEY, FailingFiles(), os.urandom).untouched()
            continue
        again = loaded(directory)
        assert indexes(again) in [life.safe, *life.possible], at
        found = (again.getCurrentTerm(), again.getVotedForNodeId())
        assert found in ([life.vote] if life.vote else life.votes), at
        again.close()
