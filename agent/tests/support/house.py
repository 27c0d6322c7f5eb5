# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker between an engine in memory and managers that a test moves, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from managers import MANAGERS, Managers
from virtual_time import VirtualClock, VirtualLoop

from covey.executor.fake import FakeExecutor
from covey.model.objects import NodeTLS
from covey.model.session import ManagerAddress
from covey.model.spec import Role
from covey.network.kernel import PacketFilter
from covey.worker.book import Book
from covey.worker.files import TaskFiles
from covey.worker.worker import Callbacks, Worker

NODE = "node1"
IMAGE = "covey/web:1"


class InlineLoop(VirtualLoop):
    """Virtual time does not wait for threads, so what is sent to one is done at once."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to the caller, as a thread would
            done.set_exception(error)
        return done


@dataclass
class House:
    """One host: its engine and disk outlive its agent."""

    directory: Path
    memory: Path = Path("/nowhere")  # only tests with secrets need one, on a tmpfs
    engine: FakeExecutor = field(default_factory=FakeExecutor)
    managers: Managers = field(default_factory=Managers)
    roles: list[Role] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    renewals: list[bool] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    tls: NodeTLS = field(default_factory=NodeTLS)
    epochs: list[int] = field(default_factory=list)
    seeds: tuple[ManagerAddress, ...] = MANAGERS[:1]
    packets: PacketFilter | None = None

    @property
    def book(self) -> Book:
        return Book(self.directory, NODE)

    @property
    def files(self) -> TaskFiles:
        return TaskFiles(self.memory)

    def agent(self) -> AbstractAsyncContextManager[Worker]:
        """The agent, running inside the block."""
        return _running(
            Worker(
                executor=self.engine,
                book=self.book,
                files=self.files,
                connector=self.managers,
                clock=VirtualClock(),
                callbacks=Callbacks(
                    role_wanted=self.roles.append,
                    refused=self.refusals.append,
                    epoch=self.epochs.append,
                    certificate_wanted=lambda: self.renewals.append(True),
                    root_changed=self.roots.append,
                    tls=lambda: self.tls,
                ),
                seeds=self.seeds,
                packets=self.packets,
            )
        )


@asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[Worker]:
    run = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop()
        await run
