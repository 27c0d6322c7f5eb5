# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk with a page cache, on real files: what was written but not synced is lost, or torn, when the power is.

Every call to the kernel may be the last one; the disk may be full, slow, or fail to sync.
"""

from __future__ import annotations

import errno
import os

from covey.store.raft.files import RealFiles, SyncFailed
from tests.unit.store.faults import Plug

SECTOR = 512


class PowerFiles(RealFiles):
    """The files below ``directory``; ``busy`` is told how long a slow sync takes."""

    def __init__(self, directory, rng, busy=lambda seconds: None):
        self._directory, self._rng, self._busy = directory, rng, busy
        self._safe: dict[int, int] = {}
        self.at: int | None = None
        self.calls = 0
        self.full = self.failing = False
        self.delay = 0.0

    def pull_plug(self, calls):
        """Let the power go at the ``calls``-th call to the kernel from now."""
        self.at = self.calls + calls

    def _last(self):
        self.calls += 1
        return self.at is not None and self.calls > self.at

    def write(self, fd, data):
        status = os.fstat(fd)
        self._safe[status.st_ino] = min(self._safe.get(status.st_ino, status.st_size), status.st_size)
        last = self._last()
        if last or self.full:
            os.write(fd, data[: self._rng.randrange(len(data) + 1)])
            raise Plug if last else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data)

    def sync(self, fd):
        if self._last():
            raise Plug
        if self.failing:
            raise SyncFailed(os.strerror(errno.EIO))
        self._safe.pop(os.fstat(fd).st_ino, None)
        if self.delay:
            self._busy(self.delay)

    def replace(self, source, target):
        last = self._last()
        if not last or self._rng.random() < 0.5:
            target.unlink(missing_ok=True)  # ext4 writes a file out when it is renamed over another one
            os.rename(source, target)
        if last:
            raise Plug

    def remove(self, path):
        last = self._last()
        if not last or self._rng.random() < 0.5:
            path.unlink()
        if last:
            raise Plug

    def sync_names(self, directory):
        if self._last():
            raise Plug

    def lose_power(self):
        """Forget what was never synced, as a disk does: all of it, the end of it, or some sectors of it."""
        if not self._safe:
            return
        for folder, _, names in os.walk(self._directory):
            for name in sorted(names):
                path = os.path.join(folder, name)
                status = os.stat(path)
                safe = self._safe.get(status.st_ino, status.st_size)
                if safe < status.st_size:
                    self._tear(path, safe, status.st_size)
        self._safe.clear()

    def _tear(self, path, safe, size):
        how = self._rng.random()
        if how < 0.4:
            os.truncate(path, safe)
        elif how < 0.7:
            os.truncate(path, self._rng.randrange(safe, size))
        else:
            self._punch(path, safe, size)

    def _punch(self, path, safe, size):
        """The file has its length, but some sectors were never written."""
        with open(path, "r+b") as file:
            start = safe
            while start < size:
                end = min((start // SECTOR + 1) * SECTOR, size)
                if self._rng.random() < 0.5:
                    file.seek(start)
                    file.write(bytes(end - start))
                start = end
