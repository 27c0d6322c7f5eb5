# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel is asked for, and in which order: the doors of all other tests take these calls' place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from covey import durable
from covey.store.raft.disk import Disk
from covey.store.raft.files import RealFiles, write_atomically
from covey.store.raft.membership import joiner_entries


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The calls so far, each with the last part of the path that it is about."""
    calls: list[str] = []

    def listen(name: str) -> None:
        real = getattr(os, name)

        def call(about, *rest, **named):
            path = os.readlink(f"/proc/self/fd/{about}") if isinstance(about, int) else os.fspath(about)
            calls.append(f"{name} {Path(path).name}")
            return real(about, *rest, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fdatasync", "fsync", "rename", "replace", "unlink"):
        listen(name)
    return calls


def test_a_file_has_its_content_before_its_name_and_its_name_before_it_counts(tmp_path, asked):
    write_atomically(RealFiles(), tmp_path / "hard", b"x")
    assert asked == ["write hard.new", "fdatasync hard.new", "rename hard.new", f"fsync {tmp_path.name}"]


def test_small_files_of_the_agent_do_too(tmp_path, asked):
    durable.replace(tmp_path / "identity.json", b"x")
    new = "identity.json.new"
    assert [call for call in asked if not call.startswith("unlink")] == [
        f"fsync {new}", f"replace {new}", f"fsync {tmp_path.name}",
    ]  # fmt: skip


def test_what_is_taken_away_stays_away(tmp_path, asked):
    for name in ("a", "b"):
        (tmp_path / name).touch()
    RealFiles().remove(tmp_path / "a")
    durable.remove(tmp_path / "b")
    assert asked == ["unlink a", f"fsync {tmp_path.name}", "unlink b", f"fsync {tmp_path.name}"]


def test_an_entry_is_synced_before_it_is_said_to_be_safe(tmp_path, asked):
    disk = Disk(tmp_path / "raft", "node-a")
    disk.open(joiner_entries())
    asked.clear()
    disk.log.add(b"\x00entry", 2, 1)
    disk.log.sync()
    written = [call.partition("-")[0] for call in asked]
    assert written == ["write journal", "fdatasync journal"]
    disk.close()
