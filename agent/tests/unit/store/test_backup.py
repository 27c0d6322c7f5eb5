# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup files: what they say to anybody, what only the passphrase opens, and what is refused."""

import io
import os

import pytest
from builders import node, service
from builders import view as view_of

from covey.model.errors import InvalidArgument
from covey.model.objects import Cluster
from covey.model.secret import Secret
from covey.state.codec import encode_view
from covey.store import backup

PASSPHRASE = Secret(b"correct horse battery")
CLUSTER = Cluster(id="c1", root_key=Secret(b"the key of the authority"))
VIEW = view_of(CLUSTER, node("n1"), *(service(f"s{number}") for number in range(300)))


def taken(view=VIEW):
    return b"".join(backup.write(view, "2026-11-26T03:12:00Z", "0.1.0", PASSPHRASE, os.urandom))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Guessing costs nothing here, or each test would take a second."""
    monkeypatch.setattr(backup, "_SCRYPT", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def file():
    return taken()


def opened(data, passphrase=PASSPHRASE):
    return backup.read(io.BytesIO(data), passphrase)


def test_what_went_in_comes_out(file):
    about, view = opened(file)
    assert list(encode_view(view)) == list(encode_view(VIEW))
    assert (about.cluster_id, about.index, about.taken_at) == ("c1", VIEW.index, "2026-11-26T03:12:00Z")


def test_a_state_of_many_frames(monkeypatch):
    monkeypatch.setattr(backup, "_FRAME_BYTES", 1000)
    assert len(opened(taken())[1].services) == 300


def test_it_says_what_it_is_without_the_passphrase(file):
    about = backup.read_about(io.BytesIO(file))
    assert (about.cluster_id, about.index, about.release) == ("c1", VIEW.index, "0.1.0")
    assert file.startswith(b"covey backup, format 1\n")


def test_nothing_of_the_state_is_readable_in_it(file):
    assert b"authority" not in file
    assert b"busybox" not in file  # three letters would turn up by chance now and then


def test_two_backups_have_nothing_in_common(file):
    assert taken().splitlines()[2:] != file.splitlines()[2:]


def test_a_wrong_passphrase_is_told_from_damage(file):
    with pytest.raises(InvalidArgument, match="passphrase is not the one"):
        opened(file, Secret(b"correct horse batterz"))


@pytest.mark.parametrize("short", [b"", b"eleven char"])
def test_a_passphrase_that_is_worth_nothing_is_refused(short):
    with pytest.raises(InvalidArgument, match="shorter than 12"):
        backup.check_passphrase(Secret(short))
    backup.check_passphrase(PASSPHRASE)


def test_every_cut_is_noticed(file):
    for length in {0, 5, 22, 23, 60, *range(len(file) - 200, len(file), 7)}:
        with pytest.raises(InvalidArgument):
            opened(file[:length])


def test_every_damaged_byte_is_noticed(file):
    head = file.index(b"\n", 30)
    places = {0, 10, head // 2, head, head + 1, head + 4, head + 5, len(file) // 2, len(file) - 1}
    for place in places:
        damaged = bytearray(file)
        damaged[place] ^= 1
        with pytest.raises(InvalidArgument):
            opened(bytes(damaged))


def test_what_follows_the_end_is_noticed(file):
    with pytest.raises(InvalidArgument, match="follows"):
        opened(file + b"x")


def test_the_first_lines_of_another_backup_are_noticed(file):
    other = file.replace(b'"2026-', b'"2025-', 1)
    with pytest.raises(InvalidArgument, match="frame 1"):
        opened(other)


def test_a_newer_format_names_the_remedy(file):
    with pytest.raises(InvalidArgument, match="format 2, written by a newer release"):
        opened(file.replace(b"format 1", b"format 2", 1))


def test_another_file_is_no_backup():
    with pytest.raises(InvalidArgument, match="no backup of Covey"):
        opened(b"PK\x03\x04" + bytes(100))
