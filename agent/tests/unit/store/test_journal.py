# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal file: what a crash may do to it and what nobody may."""

import os
import shutil

import pytest

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import RealFiles
from covey.store.raft.journal import HEADER_SIZE, JournalFile

KEY = Secret(bytes(range(32)))


def entries(first, last, term=1):
    return [(b"\x00command %d" % index, index, term) for index in range(first, last + 1)]


def opened(path, key=KEY):
    return JournalFile(path, key, RealFiles(), os.urandom)


def made(path, *batches):
    """A journal with one record for each batch, and where each record ends."""
    file = opened(path)
    file.rewrite([])
    ends = [file.length]
    for batch in batches:
        file.append(batch[0][1], batch)
        ends.append(file.length)
    file.close()
    return ends


def test_what_is_appended_is_read_back(tmp_path):
    made(tmp_path / "journal", entries(1, 3), entries(4, 4))
    file = opened(tmp_path / "journal")
    assert file.load() == (entries(1, 4), False)
    file.append(5, entries(5, 6))
    file.close()
    assert opened(tmp_path / "journal").load()[0] == entries(1, 6)


def test_a_record_that_begins_earlier_truncates(tmp_path):
    made(tmp_path / "journal", entries(1, 5), entries(3, 4, term=2))
    assert opened(tmp_path / "journal").load()[0] == entries(1, 2) + entries(3, 4, term=2)


def test_a_truncation_without_new_entries_is_kept(tmp_path):
    file = opened(tmp_path / "journal")
    file.rewrite(entries(1, 5))
    file.append(4, [])
    file.close()
    assert opened(tmp_path / "journal").load()[0] == entries(1, 3)


def test_nothing_of_a_command_is_readable_in_the_file(tmp_path):
    made(tmp_path / "journal", [(b"\x00a secret", 1, 1)])
    assert b"secret" not in (tmp_path / "journal").read_bytes()


def test_a_tail_torn_anywhere_is_cut_and_written_anew(tmp_path):
    path = tmp_path / "whole"
    *_, safe, end = made(path, entries(1, 3), entries(4, 6))
    for cut in range(safe + 1, end):
        torn = tmp_path / "journal"
        torn.write_bytes(path.read_bytes()[:cut])
        file = opened(torn)
        found, was_torn = file.load()
        assert (found, was_torn) == (entries(1, 3), True), cut
        before = file.file_id
        file.rewrite(found)
        assert file.file_id != before
        file.append(4, entries(4, 4))
        file.close()
        assert opened(torn).load() == (entries(1, 4), False)


def test_sectors_that_never_reached_the_disk_are_a_torn_tail(tmp_path):
    path = tmp_path / "journal"
    *_, safe, end = made(path, entries(1, 3), [(b"x" * 3000, 4, 1)])
    data = bytearray(path.read_bytes())
    for hole in (slice(safe, end), slice(1024, 1536), slice(1536, end)):
        holed = bytearray(data)
        holed[hole] = bytes(len(holed[hole]))
        path.write_bytes(holed)
        assert opened(path).load() == (entries(1, 3), True)


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    path = tmp_path / "journal"
    made(path, entries(1, 2), entries(3, 3))
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(BadState, match="journal"):
            opened(path).load()


def test_records_cannot_be_left_out_swapped_or_repeated(tmp_path):
    path = tmp_path / "journal"
    head, first, second, third = made(path, entries(1, 2), entries(3, 4), entries(5, 6))
    whole = path.read_bytes()
    parts = [whole[head:first], whole[first:second], whole[second:third]]
    for order in ((0, 2), (1, 0, 2), (0, 1, 1, 2), (0, 0)):
        path.write_bytes(whole[:head] + b"".join(parts[number] for number in order))
        with pytest.raises(BadState):
            opened(path).load()


def test_a_record_of_another_journal_is_refused(tmp_path):
    head, _ = made(tmp_path / "journal", entries(1, 2))
    other_head, other_first = made(tmp_path / "other", entries(1, 2))
    whole, other = (tmp_path / "journal").read_bytes(), (tmp_path / "other").read_bytes()
    (tmp_path / "journal").write_bytes(whole[:head] + other[other_head:other_first])
    with pytest.raises(BadState):
        opened(tmp_path / "journal").load()


@pytest.mark.parametrize("content", [b"", b"CVYJRN", b"something else that is much longer than a header" * 4])
def test_a_foreign_or_beheaded_file_is_refused(tmp_path, content):
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(BadState, match="journal"):
        opened(tmp_path / "journal").load()
    assert (tmp_path / "journal").read_bytes() == content


def test_a_wrong_key_opens_nothing(tmp_path):
    made(tmp_path / "journal", entries(1, 2))
    with pytest.raises(BadState):
        opened(tmp_path / "journal", Secret(bytes(32))).load()


def test_a_large_log_is_rewritten_in_several_records(tmp_path):
    big = [(bytes([index]) * (1 << 20), index, 1) for index in range(1, 12)]
    file = opened(tmp_path / "journal")
    file.rewrite(big)
    file.close()
    assert opened(tmp_path / "journal").load()[0] == big


def test_an_empty_journal_is_only_a_header(tmp_path):
    assert made(tmp_path / "journal") == [HEADER_SIZE]
    shutil.copy(tmp_path / "journal", tmp_path / "copy")
    assert opened(tmp_path / "copy").load() == ([], False)
