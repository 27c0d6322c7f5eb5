# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a manager's disk locked as the cluster's state says: its Raft directory, and the key of its identity.

Each step is durable by itself and in an order in which a crash leaves what the next start and ``follow`` go on from:
the identity's key is sealed only while the Raft directory is locked, since what opens it lies there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from covey.daemon.places import Lock, Places
from covey.model.errors import Unavailable
from covey.model.objects import Cluster
from covey.model.secret import Secret
from covey.security.identity import Identity
from covey.state.view import View
from covey.store.base import Waiter

log = logging.getLogger(__name__)

TIMEOUT = 10.0
RETRY = 2.0
_NONE = Secret(b"")


class LockedStore(Protocol):
    """A store on a disk that can be locked; see ``covey.store.raft.RaftStore``."""

    @property
    def lock_version(self) -> int: ...
    def view(self) -> View: ...
    def changed(self) -> Waiter: ...
    async def relock(self, version: int, unlock_key: Secret, timeout: float) -> Secret: ...  # noqa: ASYNC109


class DiskLock:
    """The lock of one manager's disk."""

    def __init__(
        self, store: LockedStore, places: Places, who: Callable[[], Identity], renewal_wanted: Callable[[], None]
    ) -> None:
        """``renewal_wanted`` is called when the disk is locked first: the TLS key of before was readable on it."""
        self._store, self._places, self._who, self._renewal_wanted = store, places, who, renewal_wanted

    async def follow(self) -> None:
        """Until cancelled: make the lock what the cluster wants whenever it is not."""
        waiter = self._store.changed()
        while True:
            await waiter.wait()
            while not await self._settle():  # noqa: ASYNC110 - that there is room on the disk again is no event
                await asyncio.sleep(RETRY)

    async def _settle(self) -> bool:
        """Make the lock what the newest state of the cluster wants; False to try again."""
        cluster = next(iter(self._store.view().clusters.values()), None)
        if cluster is None or self._is_settled(cluster):
            return True
        try:
            await (self._lock(cluster) if cluster.unlock_key else self._unlock())
        except Unavailable as error:
            log.warning("the lock of this manager's disk cannot be changed yet: %s", error)
            return False
        return True

    def _is_settled(self, cluster: Cluster) -> bool:
        version, lock = self._store.lock_version, self._places.lock
        if not cluster.unlock_key:
            return version == 0 and lock == Lock()
        return (version, lock.unlock_key) == (cluster.unlock_key_version, cluster.unlock_key) and bool(lock.guard)

    async def _lock(self, cluster: Cluster) -> None:
        lock, version = self._places.lock, cluster.unlock_key_version
        first = lock.guard is None
        lock.guard = await self._store.relock(version, cluster.unlock_key, TIMEOUT)
        lock.unlock_key = cluster.unlock_key
        self._places.save_identity(self._who())
        if first:
            self._renewal_wanted()
        log.info("this manager's disk is locked with unlock key number %d of the cluster", version)

    async def _unlock(self) -> None:
        lock = self._places.lock
        lock.guard = None
        self._places.save_identity(self._who())
        await self._store.relock(0, _NONE, TIMEOUT)
        lock.unlock_key = None
        log.info("this manager's disk is not locked any more")
