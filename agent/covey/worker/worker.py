# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's worker, put together: the runner, the sessions, and what they tell each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from covey.executor.base import Executor
from covey.model.clock import Clock
from covey.model.errors import EngineError
from covey.model.objects import NodeDescription, NodeTLS, TaskStatus
from covey.model.session import Assignments, ManagerAddress, Provisions
from covey.model.spec import Role
from covey.network.kernel import PacketFilter
from covey.worker.book import Book
from covey.worker.files import TaskFiles
from covey.worker.outbox import Outbox
from covey.worker.parts import until_one_ends
from covey.worker.runner import Runner
from covey.worker.session import Connector, Sessions, Standing

log = logging.getLogger(__name__)

#: Seconds for the engine to describe its host; managers are not kept waiting longer.
DESCRIBE_TIMEOUT = 2.0
RETRY = 0.5


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the daemon wants to hear.  Called on the event loop; they must not block."""

    role_wanted: Callable[[Role], None]
    refused: Callable[[str], None]
    epoch: Callable[[int], None] = lambda _: None
    certificate_wanted: Callable[[], None] = lambda: None
    root_changed: Callable[[bytes], None] = lambda _: None
    #: Asked, not told: what this node's certificate is.
    tls: Callable[[], NodeTLS] = NodeTLS


class Worker:
    """``run`` until ``stop``; neither touches a container.

    ``seeds`` are managers to begin with, beside those the book remembers.  ``packets`` keeps published ports
    open while the engine restarts.  ``run`` raises BadState for a damaged book.
    """

    def __init__(  # noqa: PLR0913 - what a worker needs of its surroundings
        self,
        *,
        executor: Executor,
        book: Book,
        files: TaskFiles,
        connector: Connector,
        clock: Clock,
        callbacks: Callbacks,
        seeds: Iterable[ManagerAddress] = (),
        packets: PacketFilter | None = None,
    ) -> None:
        self._executor, self._book, self._callbacks = executor, book, callbacks
        self._seeds = tuple(seeds)
        self._runner = Runner(executor, book, files, clock, self._engine_back, packets)
        self._sessions = Sessions(self, connector, clock, self._seeds)
        self._stop = asyncio.Event()
        self._kept: tuple[tuple[ManagerAddress, ...], int] = ((), 0)

    @property
    def outbox(self) -> Outbox:
        return self._runner.outbox

    @property
    def standing(self) -> Standing:
        """How the session with the managers stands."""
        return self._sessions.standing

    @property
    def managers(self) -> tuple[ManagerAddress, ...]:
        """Those it would turn to."""
        return self._sessions.managers

    @property
    def engine_error(self) -> str:
        """Why the container engine does not answer; empty while it does."""
        return self._runner.engine_error

    def turn_to(self, managers: Iterable[ManagerAddress]) -> None:
        """Try these managers, too; the next one that takes this node up says which there are."""
        self._sessions.managers = tuple(managers) + self._sessions.managers

    def leader_changed(self) -> None:
        """A hint of this node's manager: the present session's manager may not lead any more."""
        self._sessions.doubt()

    def certificate_changed(self, *, moves: bool) -> None:
        """Tell the managers; if ``moves``, over a new connection, since the connector has a newer certificate."""
        if moves:
            self._sessions.move()
        else:
            self._sessions.describe_again()

    async def announce_restart(self, within: float) -> None:
        """Have the managers wait for this agent, which is about to restart, ``within`` seconds at most."""
        await self._sessions.announce_restart(within)

    async def run(self) -> None:
        """Until ``stop``, or until something ends that must not."""
        page, managers, epoch = self._book.load(), self._book.load_managers(), self._book.load_epoch()
        self._kept, self._sessions.epoch = (managers, epoch), epoch
        self._runner.adopt(page)
        # Who managed when this node joined counts only until it has heard who does now: it may have been removed since.
        known = {manager.address for manager in managers}
        seeds = [one for one in self._seeds if one.address not in known and not (known and one.node_id)]
        self._sessions.managers = (*managers, *seeds)
        try:
            await self._together()
        finally:
            await self._runner.save()
            await self._executor.close()

    async def _together(self) -> None:
        raised = await until_one_ends(
            stop=self._stop.wait(), worker_runner=self._runner.run(), worker_sessions=self._sessions.run()
        )
        if raised:
            raise raised[0]
        if not self._stop.is_set():
            raise RuntimeError("a part of the worker ended without being told to")

    async def stop(self) -> None:
        """Make ``run`` return; containers run on."""
        self._stop.set()

    # What the sessions need (session.Worker)

    async def describe(self) -> NodeDescription:
        """The host's facts and this node's certificate."""
        return msgspec.structs.replace(await self._host(), tls=self._callbacks.tls())

    async def _host(self) -> NodeDescription:
        """The host's facts; while the engine is silent, the last ones known."""
        while True:
            try:
                async with asyncio.timeout(DESCRIBE_TIMEOUT):
                    described = await self._executor.describe()
            except (EngineError, TimeoutError) as error:
                if self._runner.description is not None:
                    return self._runner.description
                log.warning("cannot join the managers' talk before the engine answered once: %s", error)
                await asyncio.sleep(RETRY)
                continue
            if described != self._runner.description:
                self._runner.description = described
                self._runner.changed()
            return described

    def statuses(self) -> dict[str, TaskStatus]:
        return self._runner.statuses()

    def provide(self, message: Provisions) -> None:
        self._runner.provide(message)

    def assign(self, message: Assignments) -> None:
        self._runner.assign(message)

    async def managers_changed(self, managers: tuple[ManagerAddress, ...], epoch: int) -> None:
        self._callbacks.epoch(epoch)
        if (managers, epoch) == self._kept:
            return
        self._kept = managers, epoch
        try:
            await asyncio.to_thread(self._book.save_managers, managers, epoch)
        except OSError as error:
            log.error("the managers' addresses could not be written: %s", error)

    def certificate_wanted(self) -> None:
        self._callbacks.certificate_wanted()

    def root_changed(self, root: bytes) -> None:
        self._callbacks.root_changed(root)

    def role_wanted(self, role: Role) -> None:
        self._callbacks.role_wanted(role)

    def refused(self, reason: str) -> None:
        self._callbacks.refused(reason)

    def _engine_back(self) -> None:
        self._sessions.describe_again()
