# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that pull the plug: at a chosen call to the kernel, which for a write has done half of its work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from covey.store.raft.files import RealFiles


class Plug(Exception):
    """The plug was pulled."""


class FailingFiles(RealFiles):
    """Fails at call number ``at`` (from 0) and at every one after it; never if ``at`` is None.

    While ``full``, half of a write still finds room.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at, self.calls = at, 0
        self.full = False

    def _fails(self) -> bool:
        self.calls += 1
        return self.at is not None and self.calls > self.at

    def write(self, fd: int, data: bytes) -> None:
        if self._fails():
            if self.calls == self.at + 1:
                os.write(fd, data[: len(data) // 2])
            raise Plug
        if self.full:
            os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        if self._fails():
            raise Plug

    def replace(self, source: Path, target: Path) -> None:
        if self._fails():
            raise Plug
        target.unlink(missing_ok=True)  # ext4 writes a file out when it is renamed over another one; nobody waits here
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        if self._fails():
            raise Plug
        path.unlink()

    def sync_names(self, directory: Path) -> None:
        if self._fails():
            raise Plug
