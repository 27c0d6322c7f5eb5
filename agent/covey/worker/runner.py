# SPDX-License-Identifier: GPL-3.0-or-later
"""The keepers of a node's tasks, the engine's events and the book, kept going together.

Starting and ending it never touches a container: only keepers do, and only after a manager was heard in this run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from covey.executor.base import Container, Executor
from covey.model.clock import Clock
from covey.model.errors import EngineError
from covey.model.objects import NodeDescription, Task, TaskStatus
from covey.model.session import Assignments, Provision, Provisions
from covey.model.tasks import TaskState
from covey.network.kernel import PacketFilter
from covey.worker import furnish, template
from covey.worker.book import Book, Page
from covey.worker.files import TaskFiles
from covey.worker.floor import Floor
from covey.worker.hostports import HostPorts
from covey.worker.keeper import Keeper
from covey.worker.outbox import Outbox

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.1, 2.0
#: Seconds after which everything is looked at though nothing happened: an engine drops events that are read too slowly.
RELIST = 60.0
#: The least time between two writes of the book, and between tries on a disk that refuses.
SAVE_PAUSE, SAVE_RETRY = 0.1, 5.0


class Runner:
    """Holds what this node should run and makes it so.  ``engine_back`` is called whenever the engine (re)appears."""

    def __init__(
        self,
        executor: Executor,
        book: Book,
        files: TaskFiles,
        clock: Clock,
        engine_back: Callable[[], None],
        packets: PacketFilter | None = None,
    ) -> None:
        self.outbox = Outbox()
        self.description: NodeDescription | None = None
        self._executor, self._book, self._files, self._engine_back = executor, book, files, engine_back
        self._held: dict[str, Provision] = {}  # in memory only; a manager gives them again
        self._listed = False
        self._ports = HostPorts(self._containers, packets)
        self._floor = Floor(
            executor=executor,
            clock=clock,
            outbox=self.outbox,
            engine_lost=self._engine_lost,
            changed=self.changed,
            forget=self._forget,
            seen=self._ports.changed,
            furnish=self._furnish,
            clear=self._clear,
        )
        self._keepers: dict[str, Keeper] = {}
        self._group: asyncio.TaskGroup | None = None
        self._relist, self._unsaved = asyncio.Event(), asyncio.Event()

    @property
    def heard(self) -> bool:
        """A manager has said, in this run, what this node should run."""
        return self._floor.heard

    @property
    def engine_error(self) -> str:
        """Why the engine does not answer; empty while it does."""
        return self._floor.engine_error

    def adopt(self, page: Page) -> None:
        """What was known when the agent last ran; before ``run``."""
        self.description = page.description
        for task in page.tasks:
            keeper = self._keeper(task.id)
            keeper.status = page.statuses.get(task.id)
            keeper.assign(task)

    def provide(self, message: Provisions) -> None:
        """Values that tasks to come refer to."""
        self._held.update((item.id, item) for item in message.items)

    def assign(self, message: Assignments) -> None:
        """What a manager says this node should run."""
        self._held = {id_: self._held[id_] for id_ in message.provisions if id_ in self._held}
        for task in message.tasks:
            self._keeper(task.id).assign(task)
        listed = {task.id for task in message.tasks}
        gone = self._keepers.keys() - listed if message.complete else set(message.removed)
        for task_id in gone & self._keepers.keys():
            self._keepers[task_id].assign(None)
            self.outbox.drop(task_id)
        self._floor.heard = self._floor.heard or message.complete
        self.changed()

    def statuses(self) -> dict[str, TaskStatus]:
        """All that a manager may not know yet."""
        known = ((keeper.task_id, keeper.status) for keeper in self._assigned())
        return {task_id: status for task_id, status in known if status and status.state >= TaskState.ACCEPTED}

    def changed(self) -> None:
        """The book is out of date."""
        self._unsaved.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for keeper in self._keepers.values():
                    self._tend(keeper)
                group.create_task(self._listen(), name="engine events")
                group.create_task(self._list_again(), name="engine listing")
                group.create_task(self._keep_saving(), name="worker book")
                group.create_task(self._ports.run(), name="host ports")
        finally:
            self._group = None
            self._floor.pulls.cancel()

    def _keeper(self, task_id: str) -> Keeper:
        keeper = self._keepers.get(task_id)
        if keeper is None:
            keeper = self._keepers[task_id] = Keeper(task_id, self._floor)
            if self._group is not None:
                self._tend(keeper)
        return keeper

    def _tend(self, keeper: Keeper) -> None:
        if self._group is not None:
            self._group.create_task(keeper.run(), name=f"task {keeper.task_id}")

    def _forget(self, task_id: str) -> None:
        del self._keepers[task_id]
        self.changed()

    def _assigned(self) -> Iterator[Keeper]:
        return (keeper for keeper in self._keepers.values() if keeper.task is not None)

    def _containers(self) -> list[Container] | None:
        """Those there are, as last seen; None as long as some may not have been seen in this run."""
        if not self._listed or not all(keeper.looked for keeper in self._keepers.values()):
            return None
        return [keeper.container for keeper in self._keepers.values() if keeper.container]

    async def _furnish(self, task: Task) -> Task:
        """The task as the engine shall have it, with the files that it binds in place."""
        node = self.description or NodeDescription()
        task = template.expand(task, node)
        files = furnish.files_of(task, node, self._held)
        if files:
            await asyncio.to_thread(self._files.put, task.id, files)
        return furnish.with_files(task, lambda number: self._files.place(task.id, number))

    async def _clear(self, task_id: str) -> None:
        await asyncio.to_thread(self._files.drop, task_id)

    async def _listen(self) -> None:
        async for event in self._executor.events():
            if event.task_id is None:
                self._relist.set()
            else:
                self._keeper(event.task_id).touch()

    def _engine_lost(self, error: str) -> None:
        if not self._floor.engine_error:
            log.warning("%s; containers are left as they are", error)
        self._floor.engine_error = error
        self._relist.set()
        self._wake_all()

    def _wake_all(self) -> None:
        for keeper in self._keepers.values():
            keeper.wake()

    async def _list_again(self) -> None:
        """After each general event and each silence, and now and then anyway: look at everything at once."""
        pause = FIRST_RETRY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RELIST):
                    await self._relist.wait()
            self._relist.clear()
            looks = {keeper.task_id: keeper.looks for keeper in self._keepers.values()}
            try:
                found = await self._executor.containers()
            except EngineError as error:
                self._engine_lost(str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
                continue
            pause = FIRST_RETRY
            if self._floor.engine_error:
                log.info("the container engine answers again")
                self._floor.engine_error = ""
            for task_id in found.keys() - looks.keys():
                self._keeper(task_id).touch()
            for task_id, seen in looks.items():
                if task_id in self._keepers:
                    self._keepers[task_id].saw(found.get(task_id), seen)
            if not self._listed:
                await asyncio.to_thread(self._files.sweep, set(self._keepers))
            self._listed = True
            self._ports.doubt()
            self._engine_back()

    def page(self) -> Page:
        """What must not be forgotten."""
        assigned = list(self._assigned())
        return Page(
            node_id=self._book.node_id,
            tasks=tuple(keeper.task for keeper in assigned if keeper.task),
            statuses={keeper.task_id: keeper.status for keeper in assigned if keeper.status},
            description=self.description,
        )

    async def _keep_saving(self) -> None:
        while True:
            await self._unsaved.wait()
            if not await self.save():
                await asyncio.sleep(SAVE_RETRY)
            await asyncio.sleep(SAVE_PAUSE)

    async def save(self) -> bool:
        """Write the book now; False if the disk refuses, which the log then says."""
        self._unsaved.clear()
        try:
            await asyncio.to_thread(self._book.save, self.page())
        except OSError as error:
            log.error("assignments could not be written, so a restart may know less: %s", error)
            self._unsaved.set()
            return False
        return True
