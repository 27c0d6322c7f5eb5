# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager's Raft directory while no store runs on it: what its log adds up to, and a new one grown from a state.

The new one is that of the only voter of a new epoch.  The old one is no more changed than by any start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from covey.model.changes import Batch
from covey.model.secret import Secret
from covey.state.apply import apply
from covey.state.codec import CODEC, encode_view
from covey.state.view import View
from covey.store.raft import epoch as epochs
from covey.store.raft.disk import Disk
from covey.store.raft.files import RealFiles
from covey.store.raft.keyring import begin_alike
from covey.store.raft.machine import ViewMachine
from covey.store.raft.membership import NO_OP, REGULAR, new_raft_id
from covey.store.raft.snapshot import Mark

#: Indexes that no life before has used: versions of objects must not be given out twice.
_LEAP = 1 << 20


@dataclass(frozen=True, slots=True)
class Root:
    """A state to grow a directory from, and the newest term and epoch that it has seen."""

    view: View
    term: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Voter:
    """The only voter to begin with; ``address`` is where its Raft is dialled (host:port)."""

    node_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A locked directory whose lock and guard a new one shall have."""

    directory: Path
    unlock_key: Secret


def extract(directory: Path, node_id: str, unlock_key: Secret | None = None) -> Root:
    """Everything in the directory: the snapshot and every entry after it, known to be committed or not.

    A write that was acknowledged is among them.  Others may be that were never answered, and whose outcome was
    therefore unknown: they take effect now.  To drop what is not *known* to be committed would be worse, for how much
    is committed is written down only now and then.
    """
    disk = Disk(directory, node_id, unlock_key=unlock_key)
    disk.open(None)
    try:
        machine = ViewMachine(CODEC)
        if disk.chunks is not None:
            machine.restore(disk.chunks)
        mark = disk.snapshots.mark
        for command, index, _ in disk.log[:]:
            if command[0] == REGULAR and (mark is None or index > mark.index):
                machine.apply(index, command[1:])
        term = max(disk.log.getCurrentTerm(), disk.log[-1][2])
    finally:
        disk.release()
    return Root(machine.state(), term, epochs.read(directory).number)


def plant(directory: Path, voter: Voter, root: Root, batch: Batch, epoch: int, pattern: Pattern | None = None) -> View:
    """Make ``directory`` that of a manager that is alone in ``epoch``, with the state after ``batch``; that state.

    Locked as the ``pattern`` is, if there is one.  There as a whole or not at all; may be interrupted and called again.
    """
    index, term = root.view.index + _LEAP, max(root.term, root.view.fence) + 1
    view, outcome = apply(root.view, batch, index)
    if outcome.error is not None:
        raise outcome.error
    raft_id = new_raft_id(voter.node_id, os.urandom)
    previous, entry = ((bytes([NO_OP]), at, term) for at in (index - 1, index))
    files, place = RealFiles(), directory.with_name(directory.name + ".new")
    _clear(place)
    if pattern is not None:
        place.mkdir(mode=0o700)
        begin_alike(place, pattern.directory, pattern.unlock_key, files)
    disk = Disk(place, raft_id, unlock_key=pattern.unlock_key if pattern else None)
    disk.open([previous, entry])
    try:
        mark = Mark(entry, previous, {raft_id: voter.address})
        disk.snapshots.install(disk.snapshots.write(mark, encode_view(view)), mark)
        disk.log.setCurrentTerm(term, None)
        epochs.write(place, epochs.Epoch(epoch), files)
    finally:
        disk.close()
    files.replace(place, directory)
    return view


def _clear(place: Path) -> None:
    """Drop what an interrupted attempt left."""
    if place.exists():
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
