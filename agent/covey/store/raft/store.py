# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - every call of the protocol has a deadline
"""``RaftStore``: the ``Store`` of a manager.  Lives on the application's loop and posts to the Raft thread."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from covey.model.changes import Batch
from covey.model.errors import CoveyError, Unavailable
from covey.model.secret import Secret
from covey.state.apply import Outcome
from covey.state.codec import CODEC, Codec
from covey.state.formats import require_readers
from covey.state.view import View
from covey.store.base import Leadership, Notifier, Waiter, require_fits
from covey.store.raft import epoch as epochs
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Answer
from covey.store.raft.engine import Answers, Engine, Published
from covey.store.raft.files import RealFiles
from covey.store.raft.machine import ViewMachine
from covey.store.raft.membership import first_entries, joiner_entries, new_raft_id, node_of
from covey.store.raft.segment import Entry
from covey.store.raft.timings import Timings
from covey.store.raft.transport import Contexts, Identify, TlsNetwork
from covey.store.raft.wire import Hello

_log = logging.getLogger(__name__)

_NO_MEMBERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Where a manager's Raft lives, and in what formats it keeps the state.

    ``address`` is where the others dial it (host:port), ``listen`` where it accepts.  ``unlock_key`` opens a locked
    directory.
    """

    node_id: str
    directory: Path
    listen: tuple[str, int]
    address: str
    timings: Timings = field(default_factory=Timings)
    unlock_key: Secret | None = None
    codec: Codec = CODEC


def bootstrap(directory: Path, node_id: str, address: str) -> None:
    """Make ``directory`` that of the first manager of a new cluster; one that is there is only checked."""
    raft_id = new_raft_id(node_id, os.urandom)
    _prepare(directory, raft_id, first_entries(raft_id, address), {}, 0)


def prepare_join(directory: Path, node_id: str, members: Mapping[str, str], epoch: int = 0) -> None:
    """Make ``directory`` that of a manager that ``members`` (Raft id to address) are about to take in."""
    _prepare(directory, new_raft_id(node_id, os.urandom), joiner_entries(), members, epoch)


def _prepare(directory: Path, raft_id: str, initial: list[Entry], peers: Mapping[str, str], epoch: int) -> None:
    """The directory is there as a whole or not at all, whenever this is interrupted; then it can be called again."""
    place = directory if directory.exists() else directory.with_name(directory.name + ".new")
    disk = Disk(place, raft_id)
    disk.open(initial)
    try:
        if peers:
            disk.save_peers(peers)
        if epoch:
            epochs.write(place, epochs.Epoch(epoch), RealFiles())
    finally:
        disk.close()
    if place != directory:
        RealFiles().replace(place, directory)


class RaftStore:
    """The replicated state; see ``covey.store.base.Store``.

    ``start`` returns once others can connect, not once there is a leader.  Where ``failed`` returns, this manager can
    take no further part and its process should end with that error.
    """

    def __init__(self, settings: RaftSettings, contexts: Contexts, identify: Identify) -> None:
        self._settings = settings
        self._contexts, self._identify = contexts, identify
        self._notifier = Notifier()
        self._published = Published(View(), Leadership(), _NO_MEMBERS, frozenset())
        self._failed: asyncio.Event = asyncio.Event()
        self._disk: Disk
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self.port, self.raft_id = 0, ""
        self._stopping = False

    # -- life

    async def start(self) -> None:
        """Open the directory, listen, and take part; BadState, Superseded or OSError if that cannot be."""
        settings, loop = self._settings, asyncio.get_running_loop()
        epoch = epochs.read(settings.directory)
        epochs.require_current(epoch)
        disk = self._disk = Disk(settings.directory, settings.node_id, unlock_key=settings.unlock_key)
        await asyncio.to_thread(disk.open, None)
        self.raft_id = disk.log.raft_id
        hello = Hello(settings.address, os.urandom(8), epoch.number, self.raft_id)
        network = TlsNetwork(hello, self._contexts, self._identify)

        def publish(published: Published, answers: Answers) -> None:
            _post(loop, self._take, published, answers)

        engine = self._engine = Engine(disk, ViewMachine(settings.codec), network, settings.timings, publish)
        ready: Future[int] = Future()

        def live() -> None:
            try:
                asyncio.run(engine.run(settings.listen, {}, ready))
            finally:
                _post(loop, self._end)

        self._thread = threading.Thread(target=live, name="raft", daemon=True)
        self._thread.start()
        try:
            self.port = await asyncio.wrap_future(ready)
        except Exception:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave in good order: the log is durable, the directory free when this returns."""
        if self._engine is None or self._thread is None:
            return
        self._stopping = True
        if not self._ended.is_set():
            _post(self._engine.loop, self._engine.stop)
        await self._ended.wait()
        await asyncio.to_thread(self._thread.join)

    async def failed(self) -> BaseException:
        """Return, with the reason, once this store has stopped of itself."""
        await self._failed.wait()
        if self._error is None:
            raise AssertionError("a failure has a reason")
        return self._error

    def _end(self) -> None:
        self._ended.set()
        self._error = self._engine.failure if self._engine is not None else None
        if self._error is not None:
            self._failed.set()
        last = self._published
        self._published = replace(last, leadership=Leadership(), reachable=frozenset(), trouble="")
        self._notifier.notify()

    def _take(self, published: Published, answers: Answers) -> None:
        old, self._published = self._published, published
        now, before = ((each.leadership, each.members, each.reachable, each.trouble) for each in (published, old))
        if published.state is not old.state or now != before:
            self._notifier.notify()
        for answer, value in answers:
            answer(value)

    @property
    def turns(self) -> int | None:
        """How often the Raft thread came round, so that one that is stuck can be told; None where it need not."""
        engine = self._engine
        return None if engine is None or self._stopping or self._ended.is_set() else engine.turns

    # -- the Store protocol

    def view(self) -> View:
        """The newest state applied here."""
        state: View = self._published.state
        return state

    def position(self) -> tuple[int, int]:
        """Term and index of the newest entry here."""
        return self._published.position

    def leadership(self) -> Leadership:
        """Who leads, as far as known here."""
        return self._published.leadership

    def members(self) -> Mapping[str, str]:
        """The nodes that vote and their Raft addresses."""
        return {node_of(raft_id): address for raft_id, address in self._published.members.items()}

    def voters(self) -> Mapping[str, str]:
        """The voters' Raft ids and addresses."""
        return self._published.members

    @property
    def votes(self) -> bool:
        """Whether this manager is one of the voters, and not only an earlier self of it."""
        return self.raft_id in self._published.members

    def reachable(self) -> frozenset[str]:
        """The managers that answer this leader; of a follower none."""
        return self._published.reachable

    def trouble(self) -> str:
        """Why this manager takes no part, although it runs."""
        return self._published.trouble

    def changed(self) -> Waiter:
        """A new waiter for changes of the view or the leadership."""
        return self._notifier.waiter()

    async def propose(self, batch: Batch, timeout: float) -> int:
        """Write ``batch``; its log index."""
        codec = self._settings.codec
        require_readers(self.view(), codec.format_of(batch))
        command = codec.encode_batch(batch)
        require_fits(command)
        outcome: Outcome = await self._ask(timeout, lambda engine, answer: engine.propose(command, batch.fence, answer))
        if outcome.error is not None:
            raise outcome.error
        return outcome.index

    async def barrier(self, timeout: float) -> View:
        """A linearizable view."""
        await self._ask(timeout, lambda engine, answer: engine.barrier(answer))
        return self.view()

    async def add_member(self, node_id: str, address: str, timeout: float) -> None:
        """Make the node a voter."""
        await self._ask(timeout, lambda engine, answer: engine.add_member(node_id, address, answer))

    async def remove_member(self, node_id: str, timeout: float) -> None:
        """Take the node's vote away."""
        await self._ask(timeout, lambda engine, answer: engine.remove_member(node_id, answer))

    @property
    def lock_version(self) -> int:
        """Of the unlock key that this manager's disk needs; 0 if it needs none."""
        return self._disk.lock_version

    async def relock(self, version: int, unlock_key: Secret, timeout: float) -> Secret:
        """Have this manager's disk open with that key alone, with none if ``version`` is 0; the guard afterwards.

        The guard seals what else must not be readable on a locked disk; it comes back with the unlock key.
        """
        await self._ask(timeout, lambda engine, answer: engine.relock(version, unlock_key, answer))
        return self._disk.guard

    async def compact(self) -> None:
        """Take a snapshot soon, without waiting for the log to grow."""
        if self._engine is not None:
            _post(self._engine.loop, self._engine.compact)

    def supersede(self, by: int) -> None:
        """End here and for good if ``by`` is a later epoch than ours: somebody else has heard of it."""
        if self._engine is not None:
            _post(self._engine.loop, self._engine.superseded, by)

    def redial(self) -> None:
        """Show the other managers the newest certificate that ``contexts`` gives, without a gap."""
        if self._engine is not None and not self._ended.is_set():
            _post(self._engine.loop, self._engine.redial)

    async def _ask(self, timeout: float, call: Callable[[Engine, Answer], None]) -> Any:
        """Have the Raft thread do ``call`` and wait for its answer."""
        engine = self._engine
        if engine is None or self._ended.is_set():
            reason = f": {self._error}" if self._error else ""
            raise Unavailable(f"the store of this manager does not run{reason}")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(value: Any) -> None:
            if not done.done():
                done.set_result(value)

        _post(engine.loop, call, engine, answer)
        try:
            async with asyncio.timeout(timeout):
                value = await done
        except TimeoutError:
            raise Unavailable(
                f"no majority of the managers answered within {timeout:g} s; the change may still take effect"
            ) from None
        if isinstance(value, CoveyError):
            raise value
        return value


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: Any) -> None:
    """Have ``loop`` call it; nothing if the loop is gone, for then nobody waits there either."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        _log.debug("the loop is closed; %s is dropped", call)
