# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of tasks: in memory only, each with its owner and mode, gone when told."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from covey.model.errors import FailedPrecondition
from covey.model.secret import Secret
from covey.worker.files import TaskFile, TaskFiles, filesystem_of

ROOT = os.getuid() == 0
OWNER = (1234, 5678) if ROOT else (os.getuid(), os.getgid())


def file(text: str = "hidden", mode: int = 0o440) -> TaskFile:
    return TaskFile("Secrets[0]", Secret(text.encode()), *OWNER, mode)


def test_a_file_has_its_content_owner_and_mode_in_a_directory_for_root_alone(memory: Path):
    files = TaskFiles(memory)
    files.put("t1", [file("one", 0o400), file("two", 0o755)])
    first, second = files.place("t1", 0), files.place("t1", 1)
    assert (first.read_text(), second.read_text()) == ("one", "two")
    found = [path.stat() for path in (first, second)]
    assert [stat.S_IMODE(one.st_mode) for one in found] == [0o400, 0o755]
    assert {(one.st_uid, one.st_gid) for one in found} == {OWNER}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (memory, memory / "t1")} == {0o700}
    assert sorted(path.name for path in (memory / "t1").iterdir()) == ["0", "1"]


def test_a_repeat_touches_nothing_that_a_container_may_have(memory: Path):
    files = TaskFiles(memory)
    files.put("t1", [file()])
    before = files.place("t1", 0).stat().st_ino
    files.put("t1", [file()])
    assert files.place("t1", 0).stat().st_ino == before


def test_what_was_half_written_is_written_anew(memory: Path):
    files = TaskFiles(memory)
    (memory / "t1").mkdir(parents=True)
    (memory / "t1" / "0.new").write_text("hid")
    files.put("t1", [file()])
    assert files.place("t1", 0).read_text() == "hidden"


def test_nothing_is_written_to_a_disk(tmp_path: Path, memory: Path):
    (memory.parent / "there").touch()
    assert filesystem_of(memory.parent) == "tmpfs"
    if filesystem_of(tmp_path) == "tmpfs":
        pytest.fail("this test needs a directory that is on no tmpfs: set --basetemp")
    files = TaskFiles(tmp_path / "tasks")
    with pytest.raises(FailedPrecondition, match="not on a tmpfs: secrets would reach a disk"):
        files.put("t1", [file()])
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_place_that_cannot_be_written_says_so_without_the_value(tmp_path: Path):
    (tmp_path / "tasks").write_text("a file")
    with pytest.raises(FailedPrecondition, match="could not be written below") as caught:
        TaskFiles(tmp_path / "tasks").put("t1", [file()])
    assert "hidden" not in str(caught.value)


def test_files_go_with_their_task_and_with_a_sweep(memory: Path):
    files = TaskFiles(memory)
    for task_id in ("t1", "t2", "t3"):
        files.put(task_id, [file()])
    files.drop("t1")
    files.drop("t1")
    assert sorted(path.name for path in memory.iterdir()) == ["t2", "t3"]
    files.sweep({"t3"})
    assert [path.name for path in memory.iterdir()] == ["t3"]
    TaskFiles(memory / "nowhere").sweep(())
