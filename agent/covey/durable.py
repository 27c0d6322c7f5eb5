# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are there whole or not at all, also after the plug was pulled.

The store's own files have a door of their own (``store.raft.files``), since a sync that fails is an event there.
"""

from __future__ import annotations

import os
from pathlib import Path

UNFINISHED = ".new"


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path`` (mode 0600): at every moment all of the old or all of the new is there.

    Its directory is made if need be, for root alone.  OSError leaves the old one and takes no room.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + UNFINISHED)
    fresh.unlink(missing_ok=True)  # what a crash left behind
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    sync_names(path.parent)


def remove(path: Path) -> None:
    """Take the file away, if it is there."""
    if path.exists():
        path.unlink()
        sync_names(path.parent)


def sync_names(directory: Path) -> None:
    """Return when every name in ``directory`` is on the disk as it is seen now."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
