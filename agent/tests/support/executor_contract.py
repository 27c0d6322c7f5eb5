# SPDX-License-Identifier: GPL-3.0-or-later
"""What every Executor must do (covey/executor/base.py).  A subclass's fixture ``world`` says which one is meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from engines import CHECKED, IMAGE, EngineWorld, make_task

from covey.executor.base import Container, ContainerState, EngineEvent
from covey.model.errors import EngineDown, EngineError
from covey.model.objects import Task
from covey.model.spec import PortConfig

WAIT = 30


async def started(world: EngineWorld, task: Task) -> Container:
    await world.executor.pull(task)
    made = await world.executor.create(task)
    await world.executor.start(made.id)
    return await seen(world, task)


async def seen(world: EngineWorld, task: Task) -> Container:
    container = await world.executor.inspect(task.id)
    assert container is not None
    return container


async def until(world: EngineWorld, task: Task, holds: Callable[[Container | None], bool]) -> Container | None:
    """The container once ``holds``, woken by the engine's events alone."""
    async with asyncio.timeout(WAIT):
        async for _ in world.executor.events():
            container = await world.executor.inspect(task.id)
            if holds(container):
                return container
    raise AssertionError("events end")


class ExecutorContract:
    """The suite."""

    async def test_a_container_goes_from_created_to_running_to_exited_to_gone(self, world: EngineWorld) -> None:
        task = make_task(1)
        await world.executor.pull(task)
        made = await world.executor.create(task)
        assert (made.state, made.task_id, made.name) == (ContainerState.CREATED, task.id, f"contract.1.{task.id}")
        assert made.exit_code is None
        await world.executor.start(made.id)
        running = await seen(world, task)
        assert (running.id, running.state, running.health) == (made.id, ContainerState.RUNNING, None)
        assert running.pid > 0
        assert running.started_at
        await world.executor.stop(made.id, 5)
        stopped = await seen(world, task)
        assert (stopped.state, stopped.exit_code, stopped.pid) == (ContainerState.EXITED, 143, 0)
        await world.executor.remove(made.id)
        assert await world.executor.inspect(task.id) is None

    async def test_repeats_are_no_errors(self, world: EngineWorld) -> None:
        task = make_task(1)
        running = await started(world, task)
        await world.executor.start(running.id)
        assert (await world.executor.create(task)).id == running.id
        assert (await seen(world, task)).started_at == running.started_at
        for _ in range(2):
            await world.executor.stop(running.id, 5)
        for _ in range(2):
            await world.executor.remove(running.id)
        await world.executor.stop(running.id, 5)

    async def test_stopping_what_never_started_leaves_it_there(self, world: EngineWorld) -> None:
        task = make_task(1)
        await world.executor.pull(task)
        made = await world.executor.create(task)
        await world.executor.stop(made.id, 5)
        assert (await seen(world, task)).state is ContainerState.CREATED

    async def test_a_process_that_ignores_the_stop_signal_is_killed_after_the_grace(self, world: EngineWorld) -> None:
        task = world.deaf(make_task(1))
        running = await started(world, task)
        await world.executor.stop(running.id, 1)
        assert (await seen(world, task)).exit_code == 137

    async def test_a_running_container_can_be_removed(self, world: EngineWorld) -> None:
        running = await started(world, make_task(1))
        await world.executor.remove(running.id)
        assert await world.executor.containers() == {}

    async def test_all_containers_of_this_node_are_listed_whatever_their_state(self, world: EngineWorld) -> None:
        tasks = [make_task(number) for number in (1, 2, 3)]
        await started(world, tasks[0])
        await world.executor.stop((await started(world, tasks[1])).id, 5)
        await world.executor.create(tasks[2])
        states = {task_id: found.state for task_id, found in (await world.executor.containers()).items()}
        expected = (ContainerState.RUNNING, ContainerState.EXITED, ContainerState.CREATED)
        assert states == {task.id: state for task, state in zip(tasks, expected, strict=True)}

    async def test_a_crash_is_an_event_and_its_exit_code_is_seen(self, world: EngineWorld) -> None:
        task = make_task(1)
        running = await started(world, task)
        waiting = asyncio.ensure_future(until(world, task, lambda one: one is not None and one.state == "exited"))
        await world.crash(running, 3)
        crashed = await waiting
        assert crashed is not None
        assert (crashed.exit_code, crashed.oom_killed) == (3, False)

    async def test_a_container_removed_by_somebody_else_is_an_event(self, world: EngineWorld) -> None:
        task = make_task(1)
        running = await started(world, task)
        waiting = asyncio.ensure_future(until(world, task, lambda one: one is None))
        await world.take_away(running)
        assert await waiting is None

    async def test_the_verdict_of_a_health_check_is_an_event_with_its_output(self, world: EngineWorld) -> None:
        task = make_task(1, healthcheck=CHECKED)
        running = await started(world, task)
        assert running.health in ("starting", "healthy")
        waiting = asyncio.ensure_future(until(world, task, lambda one: one is not None and one.health == "unhealthy"))
        await world.sicken(running)
        ill = await waiting
        assert ill is not None
        assert ill.health_output == "tired"
        await world.executor.stop(running.id, 5)
        assert (await seen(world, task)).health == "unhealthy"

    async def test_a_chosen_host_port_is_told_while_it_is_open(self, world: EngineWorld) -> None:
        task = make_task(1, ports=(PortConfig(target_port=80, publish_mode="host"),))
        running = await started(world, task)
        [port] = running.ports
        assert (port.target_port, port.protocol, port.publish_mode) == (80, "tcp", "host")
        assert port.published_port
        await world.executor.stop(running.id, 5)
        assert (await seen(world, task)).ports == ()

    async def test_a_taken_host_port_is_refused_in_the_engines_words(self, world: EngineWorld) -> None:
        ports = (PortConfig(target_port=80, published_port=18080, publish_mode="host"),)
        await started(world, make_task(1, ports=ports))
        with pytest.raises(EngineError, match=r"18080.*port is already allocated"):
            await started(world, make_task(2, ports=ports))
        assert (await seen(world, make_task(2))).state is ContainerState.CREATED

    async def test_an_image_that_is_there_needs_no_registry(self, world: EngineWorld) -> None:
        await world.executor.pull(make_task(1, image=IMAGE))

    async def test_an_image_that_is_nowhere_is_an_error_that_names_it(self, world: EngineWorld) -> None:
        task = make_task(1, image="127.0.0.1:9/nowhere/at-all:1")
        with pytest.raises(EngineError, match=r"127\.0\.0\.1:9"):
            await world.executor.pull(task)
        with pytest.raises(EngineError, match=r"No such image: 127\.0\.0\.1:9/nowhere/at-all:1"):
            await world.executor.create(task)

    async def test_the_first_event_is_general(self, world: EngineWorld) -> None:
        assert await anext(world.executor.events()) == EngineEvent()

    async def test_a_silent_engine_is_unknown_and_its_return_is_an_event(self, world: EngineWorld) -> None:
        task = make_task(1)
        running = await started(world, task)
        events = world.executor.events()
        await anext(events)
        await world.engine_down()
        with pytest.raises(EngineDown, match="does not answer"):
            await world.executor.inspect(task.id)
        with pytest.raises(EngineDown):
            await world.executor.containers()
        await world.engine_up()
        async with asyncio.timeout(WAIT):
            while await anext(events) != EngineEvent():
                continue
        again = await seen(world, task)
        assert (again.id, again.state, again.started_at) == (running.id, ContainerState.RUNNING, running.started_at)

    async def test_the_engine_describes_its_host(self, world: EngineWorld) -> None:
        await world.executor.preflight()
        told = await world.executor.describe()
        assert told.hostname
        assert (told.architecture, told.os) == ("x86_64", "linux")
        assert told.nano_cpus >= 10**9
        assert told.memory_bytes > 1 << 28
        assert told.engine.version
        assert told.engine.api_version
