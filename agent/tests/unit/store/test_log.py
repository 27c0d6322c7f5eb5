# SPDX-License-Identifier: GPL-3.0-or-later
"""The log and the vote: whatever was synced is there after a crash at any call to the kernel."""

import os

import pytest

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import RealFiles
from covey.store.raft.journal import SEGMENT_BYTES, Journal, segments_in
from covey.store.raft.log import HardState, Log
from covey.store.raft.seal import DataKeys
from tests.unit.store.faults import FailingFiles, Plug

KEY = Secret(bytes(range(32)))


def make(directory, files=None, node_id="node-a", segment_bytes=SEGMENT_BYTES):
    files, keys = files or FailingFiles(), DataKeys([KEY])
    hard = HardState(directory / "hard", keys, files, os.urandom)
    return Log(Journal(directory, keys, files, os.urandom, segment_bytes), hard, node_id, lambda: None)


def loaded(directory, **kwargs):
    log = make(directory, **kwargs)
    log.load()
    return log


def created(directory, files=None, **kwargs):
    log = make(directory, files, **kwargs)
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
    (path,) = segments_in(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadState, match="journal"):
            loaded(tmp_path)
        assert path.read_bytes() == whole[:cut]


def chained(directory, syncs=4, segment_bytes=1):
    """A log with a file for each sync."""
    log = created(directory, segment_bytes=segment_bytes)
    for _ in range(syncs):
        add(log, 2)
        log.sync()
    return log


def test_a_missing_file_is_refused_whichever_it_is(tmp_path):
    """The oldest one is missed by the directory, which compares with the snapshot."""
    chained(tmp_path).close()
    files = segments_in(tmp_path)
    assert len(files) == 5
    for path in files[1:]:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BadState, match="missing"):
            loaded(tmp_path)
        path.write_bytes(whole)
    assert loaded(tmp_path).last == 9


def test_compaction_removes_files_and_keeps_their_number(tmp_path):
    log = chained(tmp_path)
    log.drop_before(6)
    log.sync()
    assert [path.name for path in segments_in(tmp_path)] == ["journal-0000000004", "journal-0000000005"]
    again = loaded(tmp_path)
    assert (again.first, again.last) == (6, 9)
    again.drop_before(7)
    again.sync()
    assert len(segments_in(tmp_path)) == 2


def test_entries_that_were_never_written_can_be_forgotten(tmp_path):
    log = created(tmp_path)
    add(log, 6)
    log.drop_before(4)
    add(log, 1)
    log.sync()
    assert indexes(loaded(tmp_path)) == [(4, 1), (5, 1), (6, 1), (7, 1), (8, 1)]


def test_an_older_journal_is_refused(tmp_path):
    log = created(tmp_path)
    add(log, 4)
    log.sync()
    (path,) = segments_in(tmp_path)
    old = path.read_bytes()
    log.restart((b"a", 20, 3), (b"b", 21, 3))
    log.close()
    (path_now,) = segments_in(tmp_path)
    path_now.unlink()
    path.write_bytes(old)
    with pytest.raises(BadState, match="an older one or from elsewhere"):
        loaded(tmp_path)


class Full(FailingFiles):
    """A disk without room at one call to the kernel; after it there is room again."""

    def _fails(self):
        fails = super()._fails()
        self.at = None if fails else self.at
        return fails

    def write(self, fd, data):
        at = self.at
        if self._fails():
            os.write(fd, data[: len(data) // 2])
            raise Plug(at)
        RealFiles.write(self, fd, data)


@pytest.mark.parametrize("segment_bytes", [1, SEGMENT_BYTES], ids=["a file each", "one file"])
def test_a_sync_that_failed_for_want_of_room_can_be_repeated(tmp_path, segment_bytes):
    calls = FailingFiles()
    (tmp_path / "whole").mkdir()
    log = chained(tmp_path / "whole", 1, segment_bytes)
    log._journal._files = log._hard._files = calls
    add(log, 3)
    log.drop_before(3)
    log.sync()
    log.close()
    assert calls.calls >= 2
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        directory.mkdir()
        log = chained(directory, 1, segment_bytes)
        log._journal._files = log._hard._files = Full(at)
        add(log, 3)
        log.drop_before(3)
        with pytest.raises(Plug):
            log.sync()
        log.sync()
        log.close()
        assert indexes(loaded(directory))[-4:] == [(3, 1), (4, 1), (5, 1), (6, 1)], at


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\x00"])
def test_a_damaged_vote_is_refused(tmp_path, damage):
    created(tmp_path).close()
    (tmp_path / "hard").write_bytes(damage((tmp_path / "hard").read_bytes()))
    with pytest.raises(BadState, match="hard"):
        loaded(tmp_path)


class Life:
    """Everything a log goes through, remembering what it was promised to keep."""

    def __init__(self, directory, files, segment_bytes):
        self.log = make(directory, files, segment_bytes=segment_bytes)
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
        self._change(self.log.reseal)
        self._change(lambda: add(self.log, 1, term=3))
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


def ends_with(found, expected):
    return found[-len(expected) :] == expected


@pytest.mark.parametrize("segment_bytes", [1, 400, SEGMENT_BYTES], ids=["a file each", "some", "one file"])
def test_a_crash_at_any_call_loses_nothing_that_was_synced(tmp_path, segment_bytes):
    calls = FailingFiles()
    (tmp_path / "whole").mkdir()
    Life(tmp_path / "whole", calls, segment_bytes).run()
    assert calls.calls > 40
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        directory.mkdir()
        life = Life(directory, FailingFiles(at), segment_bytes)
        with pytest.raises(Plug):
            life.run()
        if life.safe is None:
            untouched = HardState(directory / "hard", DataKeys([KEY]), FailingFiles(), os.urandom).untouched()
            assert untouched or segments_in(directory)
            continue
        again = loaded(directory)
        # Files may hold more from before what was forgotten, never less of what was kept.
        assert any(
            expected and indexes(again)[-len(expected) :] == expected for expected in [life.safe, *life.possible]
        ), at
        found = (again.getCurrentTerm(), again.getVotedForNodeId())
        assert found in ([life.vote] if life.vote else life.votes), at
        again.close()
        twice = loaded(directory)
        assert indexes(twice)[-len(indexes(again)) :] == indexes(again)
        twice.close()


def test_a_term_for_which_there_was_no_room_is_written_with_the_next_sync(tmp_path):
    files = FailingFiles()
    log = created(tmp_path, files)
    files.full = True
    with pytest.raises(OSError, match="No space left"):
        log.setCurrentTerm(7, "node-b")
    assert loaded(tmp_path).getCurrentTerm() == 0
    files.full = False
    log.sync()
    again = loaded(tmp_path)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (7, "node-b")


def test_what_failed_for_want_of_room_takes_none(tmp_path):
    files = FailingFiles()
    log = created(tmp_path, files)
    files.full = True
    log.drop_before(1)
    log.restart((b"\x00a", 8, 2), (b"\x00b", 9, 2))
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            log.sync()
    with pytest.raises(OSError, match="No space left"):
        log.setCurrentTerm(7, None)
    assert not list(tmp_path.glob("*.new"))


def test_a_torn_end_on_a_full_disk_is_read_and_mended_later(tmp_path):
    files = FailingFiles()
    log = created(tmp_path, files)
    add(log, 3)
    log.sync()
    add(log, 1)
    files.full = True
    with pytest.raises(OSError, match="No space left"):
        log.sync()
    again = loaded(tmp_path, files=files)
    assert indexes(again) == [(1, 0), (2, 1), (3, 1), (4, 1)]
    again.close()
    files.full = False
    again = loaded(tmp_path, files=files)
    add(again, 1, term=2)
    again.sync()
    assert indexes(loaded(tmp_path)) == [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2)]
