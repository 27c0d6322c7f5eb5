# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk without room: how long this member has been held up by it, and when it tries again.  Pure but for its memory.

Only a write that the kernel refused for want of room counts: what was written before it is safe, and nobody was told of
it.  A failed sync is another matter, after which nothing is known of the disk.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds until a disk that was full is tried again: at first, and at most if it fills up again and again.
RETRY_FIRST, RETRY_MOST = 1.0, 30.0
#: After so many seconds of good health the next trouble is a first one.
HEALTHY = 60.0

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def out_of_room(error: OSError) -> bool:
    """Whether it says that the disk, or this user's share of it, is full."""
    return error.errno in _NO_ROOM


@contextmanager
def room_permitting() -> Iterator[None]:
    """Do it unless there is no room; whoever needs it done notices again."""
    try:
        yield
    except OSError as error:
        if not out_of_room(error):
            raise


@dataclass(slots=True)
class FullDisk:
    """Whether there is one; ``since`` None means that there is not."""

    since: float | None = None
    _ended: float = 0.0
    _pause: float = RETRY_FIRST
    _again_at: float = 0.0

    def begin(self, now: float) -> None:
        """A write found no room, the first one or one that was tried again."""
        if self.since is None:
            self._pause = RETRY_FIRST if now > self._ended + HEALTHY else min(2 * self._pause, RETRY_MOST)
            self.since = now
        self._again_at = now + self._pause

    def due(self, now: float) -> bool:
        """Whether to try again."""
        return self.since is not None and now >= self._again_at

    def end(self, now: float) -> None:
        """There is room again."""
        self.since, self._ended = None, now
