# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole worker on a real engine; only the managers are played by the test."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from builders import S, replace
from engines import FOREVER, IMAGE, OWNER, RealWorld
from managers import MANAGERS, Managers

from covey.daemon.clock import SystemClock
from covey.executor.base import Container
from covey.executor.docker import DockerExecutor
from covey.model.objects import Task, TaskStatus
from covey.model.spec import ContainerSpec, TaskSpec
from covey.worker.book import Book
from covey.worker.files import TaskFiles
from covey.worker.worker import Callbacks, Worker

pytestmark = pytest.mark.lab

Agent = Callable[[], AbstractAsyncContextManager[Managers]]


@pytest.fixture
async def world(engine: Any) -> AsyncIterator[RealWorld]:
    opened = RealWorld(engine.url, engine.shell)
    yield opened
    await opened.close()


@pytest.fixture
def agent(engine: Any, world: RealWorld, tmp_path: Path) -> Agent:
    """Each call runs the agent anew, on the same engine, disk and managers."""
    managers = Managers()

    @asynccontextmanager
    async def run() -> AsyncIterator[Managers]:
        worker = Worker(
            executor=DockerExecutor(OWNER, engine.url),
            book=Book(tmp_path / "worker", OWNER.node_id),
            files=TaskFiles(tmp_path / "tasks"),
            connector=managers,
            clock=SystemClock(),
            callbacks=Callbacks(role_wanted=_ignore, refused=_ignore),
            seeds=MANAGERS[:1],
        )
        running = asyncio.create_task(worker.run())
        try:
            yield managers
        finally:
            await worker.stop()
            await running

    return run


def _ignore(_: object) -> None:
    """The daemon is not part of this."""


def task(number: int, **spec: Any) -> Task:
    words = {"image": IMAGE, "command": FOREVER, **spec}
    return Task(
        id=f"workertask{number}",
        service_id="contractservice",
        service_name="worker",
        slot=number,
        node_id=OWNER.node_id,
        spec=TaskSpec(container_spec=ContainerSpec(**words)),
        status=TaskStatus(state=S.ASSIGNED),
    )


async def on_host(engine: Any, command: str) -> str:
    words = [*engine.shell, command]
    done = await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True, timeout=120)
    return str(done.stdout.decode())


async def running(managers: Managers, *tasks: Task) -> None:
    managers.put(*tasks)
    for one in tasks:
        await managers.until_state(one.id, S.RUNNING, limit=120)


def lives(found: dict[str, Container]) -> dict[str, tuple[str, str]]:
    return {task_id: (one.id, one.started_at) for task_id, one in found.items()}


async def test_a_killed_process_is_reported_and_a_removed_service_leaves_nothing(
    engine: Any, world: RealWorld, agent: Agent
) -> None:
    async with agent() as managers:
        tasks = [task(number) for number in (1, 2, 3)]
        await running(managers, *tasks)
        pid = (await world.executor.containers())[tasks[0].id].id
        await on_host(engine, f"kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {shlex.quote(pid)})")
        status = await managers.until_state(tasks[0].id, S.FAILED, limit=30)
        assert status.err == "task: non-zero exit (137)"
        managers.put(*(replace(one, desired_state=S.REMOVE) for one in tasks))
        for one in tasks[1:]:
            await managers.until_state(one.id, S.SHUTDOWN, limit=60)
        managers.take_away(*(one.id for one in tasks))
        async with asyncio.timeout(30):
            async for _ in world.executor.events():
                if not await world.executor.containers():
                    break


async def test_a_restart_of_the_engine_is_not_seen_by_any_task(engine: Any, world: RealWorld, agent: Agent) -> None:
    async with agent() as managers:
        tasks = [task(number) for number in (1, 2, 3)]
        await running(managers, *tasks)
        before = lives(await world.executor.containers())
        await on_host(engine, "systemctl restart docker")
        await running(managers, task(4))
        after = lives(await world.executor.containers())
        assert {task_id: after[task_id] for task_id in before} == before
        assert {status.state for one in tasks for status in managers.seen(one.id)}.isdisjoint({S.FAILED, S.SHUTDOWN})
        await on_host(engine, f"docker kill {after[tasks[1].id][0]}")
        await managers.until_state(tasks[1].id, S.FAILED, limit=30)


async def test_what_crashed_while_the_engine_was_away_is_reported_when_it_is_back(
    engine: Any, world: RealWorld, agent: Agent
) -> None:
    async with agent() as managers:
        await running(managers, task(1), task(2))
        found = (await world.executor.containers())[task(1).id]
        await on_host(engine, f"systemctl stop docker.socket docker && kill -9 {found.pid} && systemctl start docker")
        await managers.until_state(task(1).id, S.FAILED, limit=60)
        assert managers.seen(task(2).id)[-1].state == S.RUNNING


async def test_an_agent_that_dies_in_the_middle_doubles_nothing(world: RealWorld, agent: Agent) -> None:
    tasks = [task(number) for number in range(1, 7)]
    async with agent() as managers:
        managers.put(*tasks)
        await managers.until_state(tasks[0].id, S.STARTING, limit=60)
    async with agent() as managers:
        for one in tasks:
            await managers.until_state(one.id, S.RUNNING, limit=120)
        before = lives(await world.executor.containers())
    async with agent() as managers:
        managers.reports.clear()
        for one in tasks:
            await managers.until_state(one.id, S.RUNNING, limit=60)
    assert lives(await world.executor.containers()) == before
    assert len(before) == len(tasks)
