# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory as a whole: how it begins, and what must be there together."""

import os

import pytest

from covey.model.errors import BadState
from covey.store.raft import bootstrap, prepare_join
from covey.store.raft.disk import Disk
from covey.store.raft.membership import first_entries, joiner_entries
from covey.store.raft.snapshot import Mark
from tests.unit.store.faults import FailingFiles, Plug


def opened(directory, node_id="node-a", initial=None, files=None):
    disk = Disk(directory, node_id, files or FailingFiles(), os.urandom)
    disk.open(initial)
    return disk


def test_a_founders_directory_has_its_vote_in_the_log(tmp_path):
    bootstrap(tmp_path / "raft", "node-a", "a:1")
    disk = opened(tmp_path / "raft")
    assert disk.log[:] == first_entries("node-a", "a:1")
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
        assert disk.log[:] == first_entries("node-a", "a:1")
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
    """A directory whose journal begins behind its snapshot."""
    disk = opened(directory, initial=first_entries("node-a", "a:1"))
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
    assert (tmp_path / "raft" / "journal").exists()


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


def test_unreadable_hints_are_no_hints(tmp_path):
    prepare_join(tmp_path / "raft", "node-b", {"node-a": "a:1"})
    (tmp_path / "raft" / "peers").write_bytes(b"{")
    disk = opened(tmp_path / "raft", "node-b")
    assert disk.peers() == {}
    disk.close()
