# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this node keeps what; whether it belongs to a cluster is whether ``cluster/`` is there.

cluster/   identity, settings and, on managers, Raft: appears whole by one rename, goes as one
forming/   a cluster directory being made; of no account after a crash
dropped/   what is being taken away; the same
lock       held by the agent that runs
joining/   the key of a join that is not complete
worker/    assignments and known managers
kept/      Raft directories of before a recovery, by time; until a person deletes them, or the node leaves
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from covey import durable
from covey.model.admission import ManagerInfo
from covey.model.codec import UNREADABLE
from covey.model.errors import BadState, Locked
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import identity
from covey.security.certificate import Peer
from covey.store.raft import lock_version, open_guard
from covey.store.raft.files import lock_directory

T = TypeVar("T")

_KNOWN = frozenset({"cluster", "dropped", "forming", "joining", "worker", "kept", "lock", "lost+found"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this node was told when it joined: where others reach it, and where it listens."""

    format: int = 1
    advertise: str  # an IP address
    listen: str  # ADDRESS:PORT of the cluster server


@dataclass(slots=True)
class Lock:
    """What opened this manager's disk, and seals the key of its identity; both empty while it is not locked."""

    unlock_key: Secret | None = None
    guard: Secret | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """The directories below the state directory."""

    state: Path
    lock: Lock = field(default_factory=Lock)

    @property
    def cluster(self) -> Path:
        return self.state / "cluster"

    @property
    def forming(self) -> Path:
        return self.state / "forming"

    @property
    def _dropped(self) -> Path:
        return self.state / "dropped"

    @property
    def joining(self) -> Path:
        return self.state / "joining"

    @property
    def worker(self) -> Path:
        return self.state / "worker"

    @property
    def raft(self) -> Path:
        return self.cluster / "raft"

    @property
    def next_raft(self) -> Path:
        """A Raft directory being made; ``replace_raft`` makes it count."""
        return self.cluster / "raft.next"

    @property
    def kept(self) -> Path:
        return self.state / "kept"

    def prepare(self) -> None:
        """Make the state directory if need be; BadState where it holds what is not ours."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        strange = sorted(e.name for e in self.state.iterdir() if e.name not in _KNOWN and not e.name.startswith("."))
        if strange:
            raise BadState(
                f"{self.state / strange[0]} is not Covey's: move it away, or set another state_dir. Nothing was changed"
            )
        _remove(self._dropped)
        _remove(self.forming)  # never became a cluster: nobody was told of it
        if self.next_raft.exists() and not self.raft.exists():
            self._take_next_raft()
        for left in (self.next_raft, self.next_raft.with_name(self.next_raft.name + ".new")):
            _remove(left)  # a recovery that was interrupted before it counted

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the state directory is this process's alone; BadState where another agent has it."""
        descriptor = lock_directory(self.state)
        try:
            yield
        finally:
            os.close(descriptor)

    def load(self) -> tuple[identity.Identity, Settings] | None:
        """Who this node is, None if it is in no cluster; BadState if what says so is damaged, Locked."""
        if not self.cluster.exists():
            return None
        found = identity.load(self.cluster / "identity", self.lock.guard)
        if found is None:
            raise self._no_identity()
        if found.role is Role.MANAGER and self.lock.guard is None and lock_version(self.raft):
            raise Locked
        return found, read(self.cluster / "settings.json", Settings)

    def peek(self) -> tuple[Peer, Settings]:
        """Whom the certificate names, which is readable while the disk is locked."""
        found = identity.peek(self.cluster / "identity")
        if found is None:
            raise self._no_identity()
        return found, read(self.cluster / "settings.json", Settings)

    def _no_identity(self) -> BadState:
        return BadState(
            f"{self.cluster} has no identity in it: restore it from a backup, or move the directory away and join "
            "the node anew. Nothing was deleted"
        )

    def open_lock(self, unlock_key: Secret) -> None:
        """Have everything readable from now on; WrongUnlockKey."""
        self.lock.guard = open_guard(self.raft, unlock_key)
        self.lock.unlock_key = unlock_key

    def load_unlocked(self) -> tuple[identity.Identity, Settings]:
        """As ``load`` after ``open_lock``; a key that a crash left unsealed beside a locked directory is sealed now."""
        loaded = self.load()
        if loaded is None:
            raise self._no_identity()
        self.save_identity(loaded[0])
        return loaded

    def save_identity(self, who: identity.Identity) -> None:
        """Make this who the node is; its key is sealed while the disk is locked."""
        identity.save(self.cluster / "identity", who, self.lock.guard)

    def forget_lock(self) -> None:
        """Seal nothing any more: what would open it goes with the Raft directory."""
        self.lock.unlock_key = self.lock.guard = None

    def form(self, who: identity.Identity, settings: Settings, managers: tuple[ManagerInfo, ...] = ()) -> None:
        """Begin a cluster directory; ``adopt`` makes it count.  ``managers``: whom to turn to at first."""
        _remove(self.forming)
        self.forming.mkdir(mode=0o700)
        identity.save(self.forming / "identity", who)
        durable.replace(self.forming / "settings.json", msgspec.json.encode(settings))
        durable.replace(self.forming / "managers.json", msgspec.json.encode(managers))

    def save_settings(self, settings: Settings) -> None:
        """Replace the settings of the cluster directory."""
        durable.replace(self.cluster / "settings.json", msgspec.json.encode(settings))

    def first_managers(self) -> tuple[ManagerInfo, ...]:
        """The managers that were named when this node joined."""
        return read(self.cluster / "managers.json", tuple[ManagerInfo, ...])

    def adopt(self) -> None:
        """From here on this node is in the cluster that ``forming/`` describes."""
        self.forming.rename(self.cluster)
        durable.sync_names(self.state)
        _remove(self.joining)

    def leave(self) -> None:
        """Forget the cluster, assignments included."""
        for directory in (self.cluster, self.worker, self.joining, self.kept):
            self._drop(directory)
        self.forget_lock()

    def resettle(self, settings: Settings, managers: tuple[ManagerInfo, ...]) -> None:
        """From the next start on this node listens so, and turns to these managers at first."""
        durable.replace(self.cluster / "settings.json", msgspec.json.encode(settings))
        durable.replace(self.cluster / "managers.json", msgspec.json.encode(managers))

    def replace_raft(self, name: str) -> Path:
        """Have ``next_raft`` take the place of the Raft directory, which is kept; where."""
        kept = self.keep_raft(name)
        self._take_next_raft()
        return kept

    def keep_raft(self, name: str) -> Path:
        """Move the Raft directory out of the way, under that name; where."""
        self.kept.mkdir(mode=0o700, exist_ok=True)
        target = self.kept / name
        self.raft.rename(target)
        for directory in (self.state, self.kept, self.cluster):
            durable.sync_names(directory)
        return target

    def _take_next_raft(self) -> None:
        self.next_raft.rename(self.raft)
        durable.sync_names(self.cluster)

    def forget_raft(self) -> None:
        """A node that is no longer a manager keeps nothing of the cluster's state."""
        self._drop(self.raft)

    def forget_worker(self) -> None:
        """A node that begins here knows nothing of the assignments of another one."""
        self._drop(self.worker)

    def _drop(self, directory: Path) -> None:
        if not directory.exists():
            return
        _remove(self._dropped)
        directory.rename(self._dropped)  # one step: a crash half-way leaves no half of it
        durable.sync_names(self.state)
        _remove(self._dropped)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def read(path: Path, kind: type[T]) -> T:
    """The value in that file; BadState names it if it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, *UNREADABLE) as error:
        raise BadState(f"{path}: {error}. Restore it from a backup. Nothing was deleted") from error
