# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to the files through which containers read their secrets and configs: a directory a task, in memory only.

It is below /run, which is a tmpfs, and open to root alone; the engine binds each file into its container.  A container
keeps what it was started with even where the directory goes, so losing it (a stopped agent) harms nothing that runs.
Never in it: which values a task may have.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from covey.model.errors import FailedPrecondition
from covey.model.secret import Secret

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class TaskFile:
    """One file; ``path`` tells a person which reference it is for."""

    path: str
    data: Secret
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """``directory`` is made when first needed.  All calls block."""

    directory: Path

    def place(self, task_id: str, number: int) -> Path:
        """Where the file of that number is."""
        return self.directory / task_id / str(number)

    def put(self, task_id: str, files: Iterable[TaskFile]) -> None:
        """Have them all there; FailedPrecondition where that cannot be, or would reach a disk."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_memory()
            (self.directory / task_id).mkdir(mode=0o700, exist_ok=True)
            for number, file in enumerate(files):
                self._write(self.place(task_id, number), file)
        except OSError as error:
            raise FailedPrecondition(
                f"the task's secrets and configs could not be written below {self.directory}: {error.strerror or error}"
            ) from None  # the cause has nothing to add, and its traceback might

    def _require_memory(self) -> None:
        kind = filesystem_of(self.directory)
        if kind not in IN_MEMORY:
            raise FailedPrecondition(
                f"{self.directory} is on {kind or 'an unknown file system'}, not on a tmpfs: secrets would reach a disk"
            )

    def _write(self, path: Path, file: TaskFile) -> None:
        """A file of that name is always whole and, as ids name one value for ever, right."""
        if path.exists():
            return
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as opened:
            opened.write(file.data.reveal())
            opened.flush()
            os.fchmod(descriptor, file.mode)  # while it is ours: the agent has no CAP_FOWNER
            found = os.fstat(descriptor)
            if (found.st_uid, found.st_gid) != (file.uid, file.gid):
                os.fchown(descriptor, file.uid, file.gid)
        fresh.rename(path)

    def drop(self, task_id: str) -> None:
        """Nothing of the task is left."""
        shutil.rmtree(self.directory / task_id, ignore_errors=True)

    def sweep(self, kept: Collection[str]) -> None:
        """Nothing is left but what these tasks have."""
        if self.directory.is_dir():
            for found in self.directory.iterdir():
                if found.name not in kept:
                    shutil.rmtree(found, ignore_errors=True)


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds ``path``, as the kernel calls it; empty if it does not say."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTS.read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return ""
