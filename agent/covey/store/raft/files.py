# SPDX-License-Identifier: GPL-3.0-or-later
"""The file door: what makes bytes survive the plug being pulled.  Nothing here knows what the bytes mean."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from covey.model.errors import BadState


class Files(Protocol):
    """The calls to the kernel that a test may want to fail."""

    def write(self, fd: int, data: bytes) -> None:
        """Write all of it."""

    def sync(self, fd: int) -> None:
        """Return when everything written to ``fd`` is on the disk."""

    def replace(self, source: Path, target: Path) -> None:
        """Put ``source`` in the place of ``target``, durably and all at once."""

    def remove(self, path: Path) -> None:
        """Take the file away, durably."""

    def sync_names(self, directory: Path) -> None:
        """Return when every name in ``directory`` is on the disk as it is seen now."""


class SyncFailed(Exception):
    """The disk did not confirm that it has the data.  What it has is not known any more: never try again."""


class RealFiles:
    """Files of this host."""

    def write(self, fd: int, data: bytes) -> None:
        """Write all of it; a short write goes on where it stopped."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def sync(self, fd: int) -> None:
        """Return when the data is on the disk, or raise SyncFailed, whatever the reason."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise SyncFailed(f"the disk does not take what was written to it: {error}") from error

    def replace(self, source: Path, target: Path) -> None:
        """Rename, and sync the directory that holds the name."""
        os.rename(source, target)
        sync_directory(target.parent)

    def remove(self, path: Path) -> None:
        """Unlink, and sync the directory that held the name."""
        os.unlink(path)
        sync_directory(path.parent)

    def sync_names(self, directory: Path) -> None:
        """Sync the directory."""
        sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(f"the disk does not take the names in {path}: {error}") from error
    finally:
        os.close(fd)


def write_atomically(files: Files, path: Path, data: bytes) -> None:
    """Replace ``path`` (mode 0600): at every moment it holds all of the old or all of the new.

    What fails leaves the old one and takes no room.
    """
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        files.write(fd, data)
        files.sync(fd)
    except OSError:
        fresh.unlink()
        raise
    finally:
        os.close(fd)
    files.replace(fresh, path)


def lock_directory(path: Path) -> int:
    """Hold ``path`` for this process alone; returns the descriptor to close when done."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise BadState(f"{path}: another process uses this directory; stop the other agent first") from error
    return fd
