# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory as a whole: how it begins, and what must be there together."""

import os

import pytest

from covey.model.errors import BadState
from covey.store.raft import bootstrap, prepare_join
from covey.store.raft.disk import Disk
from covey.store.raft.journal import SEGMENT_BYTES, segments_in
from covey.store.raft.membership import first_entries, joiner_entries
from covey.store.raft.snapshot import Mark
from tests.unit.store.faults import FailingFiles, Plug


def opened(directory, node_id="node-a", initial=None, files=None, segment_bytes=SEGMENT_BYTES):
    disk = Disk(directory, node_id, files or FailingFiles(), os.urandom, segment_bytes)
    disk.open(initial)
    return disk


def test_a_founders_directory_has_its_vote_in_the_log(tmp_path):
    bootstrap(tmp_path / "raft", "node-a", "a:1")
    disk = opened(tmp_path / "raft")
    assert disk.log[:] == first_entries(disk.log.raft_id, "a:1")
    disk.close()


def test_a_joiners_directory_knows_whom_to_dial(tmp_path):
    prepare_join(tmp_path / "raft", "node-b", {"node-a": "a:1"})
    disk = opened(tmp_path / "raft", "node-b")
    assert disk.log[:] == joiner_entries()
    assert disk.peers() == {"node-a": "a:1"}
    disk.close()


def test_beginning_can_be_interrupted_anywhere_and_repeated(tmp_path):
    calls = FailingFiles()
    opened(tmp_path / "whole", initial=first_entries("node-a", "a:1"), files=calls).close()
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        fresh = directory.with_name(directory.name + ".new")
        with pytest.raises(Plug):
            opened(fresh, initial=first_entries("node-a", "a:1"), files=FailingFiles(at)).close()
        assert not directory.exists()
        bootstrap(directory, "node-a", "a:1")
        assert not fresh.exists()
        disk = opened(directory)
        assert disk.log[:] == first_entries(disk.log.raft_id, "a:1")
        disk.close()


def test_beginning_again_changes_nothing(tmp_path):
    for _ in range(2):
        bootstrap(tmp_path / "raft", "node-a", "a:1")
        disk = opened(tmp_path / "raft")
        if disk.log.last == 2:
            disk.log.add(b"\x00written since", 3, 1)
        disk.close()
    disk = opened(tmp_path / "raft")
    assert disk.log.last == 3
    disk.close()


def test_the_directory_of_another_node_is_refused(tmp_path):
    bootstrap(tmp_path / "raft", "node-a", "a:1")
    with pytest.raises(BadState, match="belongs to node node-a"):
        bootstrap(tmp_path / "raft", "node-b", "b:1")


def compacted(directory):
    """A directory whose journal, a file for each entry, begins behind its snapshot."""
    disk = opened(directory, initial=first_entries("node-a", "a:1"), segment_bytes=1)
    for index in range(3, 21):
        disk.log.add(b"\x00%d" % index, index, 1)
        disk.log.sync()
    mark = Mark(disk.log[14], disk.log[13], {"node-a": "a:1"})
    disk.snapshots.install(disk.snapshots.write(mark, [b"state"]), mark)
    disk.log.drop_before(12)
    disk.close()
    return mark


def test_a_snapshot_and_the_log_behind_it_go_together(tmp_path):
    mark = compacted(tmp_path / "raft")
    disk = opened(tmp_path / "raft")
    assert (disk.snapshots.mark, list(disk.chunks)) == (mark, [b"state"])
    assert (disk.log.first, disk.log.last) == (12, 20)
    assert disk.log.getRaftCommitIndex() == 15
    disk.close()


@pytest.mark.parametrize("how", ["missing", "older"])
def test_a_journal_that_begins_after_the_snapshot_is_refused(tmp_path, how):
    compacted(tmp_path / "raft")
    (tmp_path / "raft" / "snapshot").unlink()
    if how == "older":
        disk = Disk(tmp_path / "raft", "node-a", FailingFiles(), os.urandom)
        with pytest.raises(BadState):
            disk.open(None)
        mark = Mark((b"\x01", 5, 1), (b"\x01", 4, 1), {})
        disk.snapshots.install(disk.snapshots.write(mark, [b"state"]), mark)
    with pytest.raises(BadState, match="the journal begins at 12"):
        opened(tmp_path / "raft")
    assert segments_in(tmp_path / "raft")


@pytest.mark.parametrize(("index", "term"), [(100, 3), (18, 3)], ids=["behind", "diverged"])
def test_a_snapshot_that_outran_the_journal_restarts_it(tmp_path, index, term):
    """A crash between putting a leader's snapshot in place and writing the journal anew."""
    compacted(tmp_path / "raft")
    disk = opened(tmp_path / "raft")
    mark = Mark((b"\x00e", index, term), (b"\x00d", index - 1, term), {"node-a": "a:1"})
    disk.snapshots.install(disk.snapshots.write(mark, [b"newer"]), mark)
    disk.close()
    for _ in range(2):
        again = opened(tmp_path / "raft")
        assert again.log[:] == [mark.previous, mark.entry]
        assert again.log.getRaftCommitIndex() == index
        again.close()


def test_a_snapshot_inside_the_journal_leaves_the_tail(tmp_path):
    """The tail may have been acknowledged already: it must stay."""
    compacted(tmp_path / "raft")
    disk = opened(tmp_path / "raft")
    mark = Mark(disk.log[7], disk.log[6], {"node-a": "a:1"})
    disk.snapshots.install(disk.snapshots.write(mark, [b"newer"]), mark)
    disk.close()
    again = opened(tmp_path / "raft")
    assert again.log.last == 20
    again.close()


@pytest.mark.parametrize("content", [b"{", b'{"addresses":{"node-a":"\xff:1"},"version":1}'])
def test_unreadable_hints_are_no_hints(tmp_path, content):
    prepare_join(tmp_path / "raft", "node-b", {"node-a": "a:1"})
    (tmp_path / "raft" / "peers").write_bytes(content)
    disk = opened(tmp_path / "raft", "node-b")
    assert disk.peers() == {}
    disk.close()


def test_the_oldest_file_of_the_journal_is_missed(tmp_path):
    disk = opened(tmp_path / "raft", initial=first_entries("node-a", "a:1"), segment_bytes=1)
    disk.log.add(b"\x00", 3, 1)
    disk.close()
    segments_in(tmp_path / "raft")[0].unlink()
    with pytest.raises(BadState, match="the journal begins at 3"):
        opened(tmp_path / "raft")


def test_a_journal_of_the_former_format_is_refused_by_name(tmp_path):
    directory = tmp_path / "raft"
    directory.mkdir()
    for name in ("journal", "hard", "dek", "kek"):
        (directory / name).write_bytes(b"CVY of old")
    with pytest.raises(BadState, match=f"{directory / 'journal'} is of an earlier format"):
        opened(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["dek", "hard", "journal", "kek", "lock"]


# -- data keys


def key_ids(disk):
    """What the directory's files are sealed with, and what the ring holds."""
    disk.log.onOneSecondTimer()
    return {disk._hard.in_use, *disk._journal.in_use, *disk.snapshots.in_use()}, set(disk._keys.keys.ids())


def snapshot_of(disk, index):
    first = disk.log.first
    mark = Mark(disk.log[index - first], disk.log[index - 1 - first], {"node-a": "a:1"})
    disk.snapshots.install(disk.snapshots.write(mark, [b"state"]), mark)


def written(disk, *indexes):
    for index in indexes:
        disk.log.add(b"\x00%d" % index, index, 1)
    disk.log.sync()


def test_a_new_data_key_takes_over_and_the_old_one_goes_with_its_last_file(tmp_path):
    compacted(tmp_path / "raft")
    disk = opened(tmp_path / "raft")
    (old,) = key_ids(disk)[1]
    disk.rotate_key()
    written(disk, 21, 22)
    used, known = key_ids(disk)
    assert used == known
    assert len(known) == 2
    snapshot_of(disk, 21)
    assert len(key_ids(disk)[1]) == 2
    disk.log.drop_before(21)
    disk.log.sync()
    assert key_ids(disk) == (known - {old}, known - {old})
    disk.close()
    again = opened(tmp_path / "raft")
    assert again.log.last == 22
    again.close()


def test_a_snapshot_that_has_just_been_begun_keeps_every_key(tmp_path):
    compacted(tmp_path / "raft")
    disk = opened(tmp_path / "raft")
    disk.rotate_key()
    (tmp_path / "raft" / "snapshot.local").touch()
    snapshot_of_all = disk.log.last
    written(disk, snapshot_of_all + 1)
    disk.log.restart(*disk.log[-2:])
    disk.log.sync()
    disk.log.onOneSecondTimer()
    assert len(disk._keys.keys.ids()) == 2
    disk.close()


def test_a_crash_anywhere_in_a_change_of_the_data_key_leaves_all_readable(tmp_path):
    def life(directory, files):
        disk = opened(directory, files=files)
        try:
            disk.rotate_key()
            written(disk, 21, 22)
            snapshot_of(disk, 21)
            disk.log.drop_before(21)
            disk.log.sync()
            disk.log.onOneSecondTimer()
            disk.log.close()
        finally:
            disk.release()

    calls = FailingFiles()
    compacted(tmp_path / "whole")
    life(tmp_path / "whole", calls)
    assert calls.calls > 25
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        compacted(directory)
        with pytest.raises(Plug):
            life(directory, FailingFiles(at))
        for _ in range(2):
            disk = opened(directory)
            assert disk.log.last >= 20, at
            assert list(disk.chunks) == [b"state"]
            written(disk, disk.log.last + 1)
            assert disk._journal.stamp[:8] == disk._keys.keys.ids()[-1], "the newest key seals what is written now"
            disk.close()
