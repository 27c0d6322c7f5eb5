# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's files: what a crash may do to them and what nobody may."""

import os
import shutil

import pytest

from covey.model.errors import BadState
from covey.model.secret import Secret
from covey.store.raft.files import RealFiles
from covey.store.raft.journal import SEGMENT_BYTES, Journal, segments_in
from covey.store.raft.seal import DataKeys
from covey.store.raft.segment import HEADER_SIZE
from tests.unit.store.faults import FailingFiles, Plug

KEY = Secret(bytes(range(32)))


def entries(first, last, term=1):
    return [(b"\x00command %d" % index, index, term) for index in range(first, last + 1)]


def opened(directory, *keys, files=None, segment_bytes=SEGMENT_BYTES):
    return Journal(directory, DataKeys(keys or [KEY]), files or RealFiles(), os.urandom, segment_bytes)


def loaded(directory, *keys, **settings):
    """A journal that was just read, and what it held."""
    journal = opened(directory, *keys, **settings)
    return journal, journal.load()


def held(directory, *keys):
    journal, found = loaded(directory, *keys)
    journal.close()
    return found


def made(directory, *batches, **settings):
    """A journal with one record for each batch, and where each record ends in its file."""
    directory.mkdir(exist_ok=True)
    journal = opened(directory, **settings)
    journal.restart([])
    ends = [journal.length]
    for batch in batches:
        journal.append(batch[0][1], batch)
        ends.append(journal.length)
    journal.close()
    return ends


def chain(directory, *batches):
    """A journal with one file for each batch, behind an empty first one; the files."""
    made(directory, *batches, segment_bytes=1)
    return segments_in(directory)


def names(directory):
    return [path.name.removeprefix("journal-").lstrip("0") for path in segments_in(directory)]


def test_what_is_appended_is_read_back(tmp_path):
    made(tmp_path, entries(1, 3), entries(4, 4))
    journal, found = loaded(tmp_path)
    assert found == entries(1, 4)
    assert not journal.append(5, entries(5, 6))
    journal.close()
    assert held(tmp_path) == entries(1, 6)


def test_a_record_that_begins_earlier_truncates(tmp_path):
    made(tmp_path, entries(1, 5), entries(3, 4, term=2))
    assert held(tmp_path) == entries(1, 2) + entries(3, 4, term=2)


def test_a_truncation_without_new_entries_is_kept(tmp_path):
    journal = opened(tmp_path)
    journal.restart(entries(1, 5))
    journal.append(4, [])
    journal.close()
    assert held(tmp_path) == entries(1, 3)


def test_nothing_of_a_command_is_readable_in_the_file(tmp_path):
    made(tmp_path, [(b"\x00a secret", 1, 1)])
    assert b"secret" not in segments_in(tmp_path)[0].read_bytes()


def test_a_large_log_begins_anew_in_several_records(tmp_path):
    big = [(bytes([index]) * (1 << 20), index, 1) for index in range(1, 12)]
    journal = opened(tmp_path)
    journal.restart(big)
    journal.close()
    assert held(tmp_path) == big


def test_an_empty_journal_is_only_a_header(tmp_path):
    assert made(tmp_path) == [HEADER_SIZE]
    assert held(tmp_path) == []


def test_a_directory_without_a_journal_is_no_empty_journal(tmp_path):
    with pytest.raises(BadState, match="has no journal"):
        held(tmp_path)


# -- a torn tail


def test_a_tail_torn_anywhere_is_left_out_and_the_next_record_goes_to_a_new_file(tmp_path, caplog):
    *_, safe, end = made(tmp_path / "whole", entries(1, 3), entries(4, 6))
    whole = segments_in(tmp_path / "whole")[0]
    for cut in range(safe + 1, end):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / whole.name).write_bytes(whole.read_bytes()[:cut])
        journal, found = loaded(directory)
        assert (found, journal.length) == (entries(1, 3), safe), cut
        assert str(directory / whole.name) in caplog.messages[-1]
        before = journal.stamp
        assert journal.append(4, entries(4, 4, term=2))
        assert journal.stamp != before
        journal.append(5, entries(5, 5, term=2))
        journal.close()
        assert held(directory) == entries(1, 3) + entries(4, 5, term=2)


def test_sectors_that_never_reached_the_disk_are_a_torn_tail(tmp_path):
    *_, safe, end = made(tmp_path, entries(1, 3), [(b"x" * 3000, 4, 1)])
    path = segments_in(tmp_path)[0]
    data = path.read_bytes()
    for hole in (slice(safe, end), slice(1024, 1536), slice(1536, end)):
        holed = bytearray(data)
        holed[hole] = bytes(len(holed[hole]))
        path.write_bytes(holed)
        assert held(tmp_path) == entries(1, 3)


def test_a_torn_end_of_a_file_with_a_successor_is_damage(tmp_path):
    files = chain(tmp_path, entries(1, 3), entries(4, 6))
    whole = files[1].read_bytes()
    for cut in range(len(whole)):
        files[1].write_bytes(whole[:cut])
        with pytest.raises(BadState, match=files[1].name):
            held(tmp_path)


def test_a_write_that_failed_can_be_repeated_and_goes_to_a_new_file(tmp_path):
    """A full disk: half a record is there, and its nonce is spent."""
    files = FailingFiles()
    journal = opened(tmp_path, files=files)
    journal.restart(entries(1, 3))
    files.at = files.calls
    with pytest.raises(Plug):
        journal.append(4, entries(4, 4))
    files.at = None
    assert journal.append(4, entries(4, 5))
    journal.close()
    assert names(tmp_path) == ["1", "2"]
    assert held(tmp_path) == entries(1, 5)


# -- many files


def test_a_full_file_is_followed_by_a_new_one(tmp_path):
    made(tmp_path, *(entries(index, index) for index in range(1, 40)), segment_bytes=400)
    assert 3 < len(names(tmp_path)) < 30
    assert all(path.stat().st_size < 500 for path in segments_in(tmp_path))
    assert held(tmp_path) == entries(1, 39)


def test_a_truncation_reaches_back_over_files(tmp_path):
    chain(tmp_path, entries(1, 3), entries(4, 6), entries(7, 7), entries(2, 4, term=2), entries(5, 5, term=2))
    assert held(tmp_path) == entries(1, 1) + entries(2, 5, term=2)


def test_files_go_once_all_that_they_alone_hold_may_go(tmp_path):
    chain(tmp_path, entries(1, 3), entries(4, 6), entries(7, 9))
    journal, found = loaded(tmp_path)
    assert found == entries(1, 9)
    journal.drop_before(3)
    assert names(tmp_path) == ["2", "3", "4"]
    journal.drop_before(6)
    assert names(tmp_path) == ["3", "4"]
    journal.close()
    assert held(tmp_path) == entries(4, 9)


def test_the_file_that_grows_never_goes(tmp_path):
    chain(tmp_path, entries(1, 3), entries(4, 6))
    journal, _ = loaded(tmp_path)
    journal.drop_before(100)
    journal.close()
    assert held(tmp_path)[-1] == entries(6, 6)[0]


def test_a_file_is_kept_for_what_a_later_one_does_not_hold(tmp_path):
    """The last file begins again at 5, so that 4 is still to be had from the second one alone."""
    chain(tmp_path, entries(1, 3), entries(4, 6), entries(7, 9), entries(5, 5, term=2))
    journal, _ = loaded(tmp_path)
    journal.drop_before(4)
    journal.close()
    assert names(tmp_path) == ["3", "4", "5"]
    assert held(tmp_path) == entries(4, 4) + entries(5, 5, term=2)
    journal, _ = loaded(tmp_path)
    journal.drop_before(5)
    journal.close()
    assert held(tmp_path) == entries(5, 5, term=2)


def test_beginning_anew_makes_all_before_of_no_account(tmp_path):
    chain(tmp_path, entries(1, 3), entries(4, 6))
    journal, _ = loaded(tmp_path)
    journal.restart(entries(90, 91))
    assert journal.length_of(b"\x00" * 24) is None
    journal.close()
    assert names(tmp_path) == ["1", "2", "3", "4"]
    journal, found = loaded(tmp_path)
    assert found == entries(90, 91)
    journal.drop_before(90)
    assert names(tmp_path) == ["4"]
    journal.append(92, entries(92, 92))
    journal.close()
    assert held(tmp_path) == entries(90, 92)


# -- what nobody may do


def test_a_flipped_bit_anywhere_in_any_file_is_refused_with_its_name(tmp_path):
    files = chain(tmp_path, entries(1, 2), entries(3, 3))
    for path in files:
        whole = path.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(BadState, match=path.name):
                held(tmp_path)
        path.write_bytes(whole)
    assert held(tmp_path) == entries(1, 3)


def test_damage_is_named_with_its_byte_and_what_to_do(tmp_path):
    _, first, _ = made(tmp_path, entries(1, 2), entries(3, 4))
    path = segments_in(tmp_path)[0]
    damaged = bytearray(path.read_bytes())
    damaged[first + 10] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadState, match=rf"{path}: damaged at byte {first}, .*begin anew"):
        held(tmp_path)


def test_records_cannot_be_left_out_swapped_or_repeated(tmp_path):
    head, first, second, third = made(tmp_path, entries(1, 2), entries(3, 4), entries(5, 6))
    path = segments_in(tmp_path)[0]
    whole = path.read_bytes()
    parts = [whole[head:first], whole[first:second], whole[second:third]]
    for order in ((0, 2), (1, 0, 2), (0, 1, 1, 2), (0, 0)):
        path.write_bytes(whole[:head] + b"".join(parts[number] for number in order))
        with pytest.raises(BadState):
            held(tmp_path)


def test_a_record_of_another_journal_is_refused(tmp_path):
    head, _ = made(tmp_path / "journal", entries(1, 2))
    other_head, other_first = made(tmp_path / "other", entries(1, 2))
    (path,), (other,) = segments_in(tmp_path / "journal"), segments_in(tmp_path / "other")
    path.write_bytes(path.read_bytes()[:head] + other.read_bytes()[other_head:other_first])
    with pytest.raises(BadState):
        held(tmp_path / "journal")


def test_a_missing_file_is_named(tmp_path):
    files = chain(tmp_path, entries(1, 3), entries(4, 6), entries(7, 9))
    files[2].unlink()
    with pytest.raises(BadState, match=f"{files[2].name} is missing"):
        held(tmp_path)


def test_files_cannot_be_swapped_or_renamed(tmp_path):
    files = chain(tmp_path, entries(1, 3), entries(4, 6), entries(7, 9))
    swap = tmp_path / "swap"
    for source, target in ((files[1], swap), (files[2], files[1]), (swap, files[2])):
        shutil.move(source, target)
    with pytest.raises(BadState, match="under another name"):
        held(tmp_path)


def test_a_file_of_another_journal_does_not_fit(tmp_path):
    files = chain(tmp_path / "journal", entries(1, 3), entries(4, 6), entries(7, 9))
    others = chain(tmp_path / "other", entries(1, 3), entries(4, 6), entries(7, 9))
    for path, other in zip(files, others, strict=True):
        whole = path.read_bytes()
        shutil.copy(other, path)
        with pytest.raises(BadState, match="journal-"):
            held(tmp_path / "journal")
        path.write_bytes(whole)


def test_an_older_copy_of_a_file_is_refused(tmp_path):
    made(tmp_path, entries(1, 2), entries(3, 4))
    path = segments_in(tmp_path)[0]
    old = path.read_bytes()
    journal, _ = loaded(tmp_path)
    journal.append(5, entries(5, 6))
    journal.close_off()
    journal.append(7, entries(7, 7))
    journal.close()
    path.write_bytes(old)
    with pytest.raises(BadState, match=rf"{path.name} is truncated: \d+ bytes were safe"):
        held(tmp_path)


@pytest.mark.parametrize("content", [b"", b"CVYJRN", b"something else that is much longer than a header" * 4])
def test_a_foreign_or_beheaded_file_is_refused(tmp_path, content):
    made(tmp_path)
    path = segments_in(tmp_path)[0]
    path.write_bytes(content)
    with pytest.raises(BadState, match="journal"):
        held(tmp_path)
    assert path.read_bytes() == content


def test_a_wrong_key_opens_nothing(tmp_path):
    made(tmp_path, entries(1, 2))
    with pytest.raises(BadState, match="no key"):
        held(tmp_path, Secret(bytes(32)))


# -- keys


def test_a_new_key_takes_over_with_the_next_file_and_both_are_read(tmp_path):
    old, new = KEY, Secret(bytes(32))
    made(tmp_path, entries(1, 2))
    journal, _ = loaded(tmp_path, old, new)
    journal.append(3, entries(3, 3))
    assert len(journal.in_use) == 1
    journal.close_off()
    journal.append(4, entries(4, 5))
    assert len(journal.in_use) == 2
    journal.close()
    assert held(tmp_path, new, old) == entries(1, 5)
    with pytest.raises(BadState, match="journal-0000000001"):
        held(tmp_path, new)
    journal, _ = loaded(tmp_path, old, new)
    journal.drop_before(4)
    journal.close()
    assert held(tmp_path, new) == entries(4, 5)
