# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are there whole or not at all."""

import errno
import os

import pytest

from covey import durable


def test_a_file_is_replaced_as_a_whole_for_its_owner_alone(tmp_path):
    path = tmp_path / "made" / "file"
    durable.replace(path, b"old")
    with path.open("rb") as before:
        durable.replace(path, b"new")
        assert (before.read(), path.read_bytes()) == (b"old", b"new")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


def test_what_a_crash_left_is_not_built_upon(tmp_path):
    (tmp_path / "file.new").write_bytes(b"half of something longer")
    durable.replace(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_a_disk_that_refuses_keeps_the_old_one_and_loses_no_room(tmp_path, monkeypatch):
    durable.replace(tmp_path / "file", b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_removing_what_is_not_there_is_nothing(tmp_path):
    durable.replace(tmp_path / "file", b"x")
    durable.remove(tmp_path / "file")
    durable.remove(tmp_path / "file")
    assert not list(tmp_path.iterdir())
