# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshot files and their way over the wire."""

import os

import pytest

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.seal import DataKeys
from covey.store.raft.snapshot import Mark, Snapshots
from covey.store.raft.streams import Incoming, Outgoing
from covey.store.raft.wire import Chunk
from tests.unit.store.faults import FailingFiles, Plug

KEY = Secret(bytes(range(32)))


def mark(index, term=1):
    return Mark((b"\x00e", index, term), (b"\x00d", index - 1, term), {"node-a": "a:1"})


def snapshots(directory, files=None):
    directory.mkdir(exist_ok=True)
    return Snapshots(directory, DataKeys([KEY]), files or FailingFiles(), os.urandom)


def take(store, index, chunks):
    return store.install(store.write(mark(index), chunks), mark(index))


def held(directory):
    store = snapshots(directory)
    chunks = store.load()
    return None if chunks is None else (store.mark, list(chunks))


CHUNKS = [b"head", b"x" * 300_000, b"", b"y" * 300_000, b"tail"]


def test_what_is_taken_is_held(tmp_path):
    assert held(tmp_path / "a") is None
    assert take(snapshots(tmp_path / "a"), 10, CHUNKS)
    assert held(tmp_path / "a") == (mark(10), CHUNKS)


def test_an_empty_state_is_a_state(tmp_path):
    take(snapshots(tmp_path / "a"), 10, [])
    assert held(tmp_path / "a") == (mark(10), [])


def test_nothing_of_the_state_is_readable_in_the_file(tmp_path):
    take(snapshots(tmp_path / "a"), 10, [b"a secret"])
    assert b"secret" not in (tmp_path / "a" / "snapshot").read_bytes()


def test_an_older_state_never_replaces_a_newer_one(tmp_path):
    store = snapshots(tmp_path / "a")
    take(store, 20, [b"new"])
    assert not take(store, 10, [b"old"])
    assert held(tmp_path / "a") == (mark(20), [b"new"])
    assert not (tmp_path / "a" / "snapshot.local").exists()


def test_a_crash_at_any_call_leaves_the_old_or_the_new_state(tmp_path):
    calls = FailingFiles()
    take(snapshots(tmp_path / "whole", calls), 20, CHUNKS)
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        take(snapshots(directory), 10, [b"old"])
        with pytest.raises(Plug):
            take(snapshots(directory, FailingFiles(at)), 20, CHUNKS)
        assert held(directory) == (mark(10), [b"old"])


def read_whole(path):
    store = snapshots(path.parent)
    return list(store.load())


def test_a_truncated_snapshot_is_refused_wherever_it_ends(tmp_path):
    take(snapshots(tmp_path / "a"), 10, [b"some", b"state"])
    path = tmp_path / "a" / "snapshot"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadState, match="snapshot"):
            read_whole(path)


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    take(snapshots(tmp_path / "a"), 10, [b"some", b"state"])
    path = tmp_path / "a" / "snapshot"
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(BadState, match="snapshot"):
            read_whole(path)


def test_bytes_after_the_end_are_refused(tmp_path):
    take(snapshots(tmp_path / "a"), 10, [b"state"])
    path = tmp_path / "a" / "snapshot"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadState):
        read_whole(path)


def pieces(store):
    stream = Outgoing(store)
    found = []
    while (piece := stream.piece()) is not None:
        found.append(Chunk(3, 0, 0, piece.mark.index, piece.mark.term, piece.number, piece.last, piece.data))
    return found


@pytest.fixture
def leader(tmp_path):
    store = snapshots(tmp_path / "leader")
    take(store, 10, CHUNKS)
    return store


def test_a_snapshot_arrives_whole_and_is_sealed_anew(tmp_path, leader):
    store = snapshots(tmp_path / "follower")
    incoming = Incoming(store)
    paths = [incoming.take("node-a", chunk) for chunk in pieces(leader)]
    assert len(paths) > 2
    assert [path is not None for path in paths] == [False] * (len(paths) - 1) + [True]
    found, chunks = incoming.mark_of(paths[-1])
    assert (found, list(chunks)) == (mark(10), CHUNKS)
    assert store.install(paths[-1], found)
    assert held(tmp_path / "follower") == (mark(10), CHUNKS)
    assert (tmp_path / "follower" / "snapshot").read_bytes() != leader.path.read_bytes()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_gap_gives_no_file(tmp_path, leader, missing):
    incoming = Incoming(snapshots(tmp_path / "follower"))
    sent = pieces(leader)
    del sent[missing]
    assert [incoming.take("node-a", chunk) for chunk in sent] == [None] * len(sent)


def test_a_transfer_that_begins_again_replaces_the_one_before(tmp_path, leader):
    incoming = Incoming(snapshots(tmp_path / "follower"))
    sent = pieces(leader)
    for chunk in sent[:2]:
        incoming.take("node-a", chunk)
    assert [incoming.take("node-b", chunk) for chunk in sent][-1] is not None


def test_chunks_of_two_leaders_do_not_mix(tmp_path, leader):
    incoming = Incoming(snapshots(tmp_path / "follower"))
    sent = pieces(leader)
    incoming.take("node-a", sent[0])
    assert [incoming.take("node-b", chunk) for chunk in sent[1:]][-1] is None


def test_a_snapshot_on_its_way_survives_a_newer_one(leader):
    stream = Outgoing(leader)
    first = stream.piece()
    take(leader, 20, [b"newer"])
    rest = []
    while (piece := stream.piece()) is not None:
        rest.append(piece)
    assert {piece.mark.index for piece in (first, *rest)} == {10}
    assert rest[-1].last
