# SPDX-License-Identifier: GPL-3.0-or-later
"""Which life of its cluster a manager's Raft directory belongs to.

A cluster is founded in epoch 0.  Whoever recovers it from a lost majority, or restores it from a backup, begins a new
epoch, numbered by the time it happened.  Managers of different epochs have different histories behind the same indexes
and never talk Raft with each other; the one that learns of a later epoch takes no part in anything any more.
"""

from __future__ import annotations

import datetime
import zlib
from pathlib import Path

import msgspec

from covey.model.codec import UNREADABLE
from covey.model.errors import BadState, Superseded
from covey.store.raft.files import Files, write_atomically
from covey.store.raft.segment import REJOIN

_FILE = "epoch"
_VERSION = 1


class Epoch(msgspec.Struct, frozen=True):
    """What the file ``epoch`` says; one that is not there is that of a founded cluster.  No secret."""

    number: int = 0
    superseded_by: int = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With a check, since one flipped bit of a number would silence this manager, or all the others."""

    number: int
    superseded_by: int
    check: int
    version: int


def following(number: int, now: float) -> int:
    """The epoch that begins after ``number``: unix seconds, so that two recoveries of one cluster differ."""
    return max(number + 1, int(now))


def read(directory: Path) -> Epoch:
    """The directory's epoch; BadState if the file cannot be read."""
    path = directory / _FILE
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return Epoch()
    except (OSError, *UNREADABLE) as error:
        raise BadState(f"{path}: {error}; {REJOIN}") from error
    if file.version > _VERSION:
        raise BadState(f"{path} was written by a newer release; upgrade this agent")
    epoch = Epoch(file.number, file.superseded_by)
    if file.check != _check(epoch):
        raise BadState(f"{path} is damaged: its numbers and its check do not belong together; {REJOIN}")
    return epoch


def write(directory: Path, epoch: Epoch, files: Files) -> None:
    """Replace the file, durably."""
    file = _File(epoch.number, epoch.superseded_by, _check(epoch), _VERSION)
    write_atomically(files, directory / _FILE, msgspec.json.encode(file))


def _check(epoch: Epoch) -> int:
    return zlib.crc32(f"{epoch.number} {epoch.superseded_by}".encode())


def require_current(epoch: Epoch) -> None:
    """Superseded if a later epoch was heard of."""
    if epoch.superseded_by > epoch.number:
        raise superseded(epoch.superseded_by)


def superseded(by: int) -> Superseded:
    """What a manager of an earlier epoch has to know."""
    return Superseded(
        f"the cluster was recovered {at(by)} without this manager, so its vote and its copy of the state count no "
        "more; it becomes a worker when a manager of the recovered cluster answers (docker node promote makes it "
        "vote again), or leaves with `docker swarm leave --force` and joins anew. Nothing of its state was deleted"
    )


def at(number: int) -> str:
    """When that epoch began, for a person."""
    moment = datetime.datetime.fromtimestamp(number, datetime.UTC)
    return f"at {moment:%Y-%m-%d %H:%M:%S} UTC" if number else "when it was founded"
