# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine in memory for tests and simulation: nothing happens in it but what a caller or a test makes happen.

It passes the same contract suite as the real one.  Time is the event loop's, so a virtual loop makes it virtual.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from covey.executor.base import Container, ContainerState, EngineEvent
from covey.model.errors import EngineDown, EngineError, FailedPrecondition
from covey.model.objects import EngineFacts, NodeDescription, Task
from covey.model.spec import PortConfig

KILLED, TERMINATED = 137, 143
FIRST_FREE_PORT = 32768


@dataclass(frozen=True, slots=True)
class Call:
    """One call that reached the engine, for tests to look at."""

    method: str
    subject: str


class FakeExecutor:
    """The Executor without an engine.  ``images`` are in the engine, ``registry`` is what can be pulled.

    What a look shows is as old as the moment it was asked for, however long the answer takes.
    """

    def __init__(self, description: NodeDescription | None = None) -> None:
        self.description = description or NodeDescription(
            hostname="fake",
            architecture="x86_64",
            os="linux",
            nano_cpus=4_000_000_000,
            memory_bytes=8 << 30,
            engine=EngineFacts(version="0", api_version="1.41"),
        )
        self.images: set[str] = set()
        self.registry: set[str] = set()
        self.pull_errors: dict[str, str] = {}
        self.errors: dict[str, str] = {}  # method -> the engine's text, until taken out again
        self.problems: list[str] = []
        self.stubborn: set[str] = set()  # task ids whose process ignores the stop signal
        self.calls: list[Call] = []
        self.born: list[str] = []  # task ids, once for each container that was really made
        self.begun: list[str] = []  # and once for each time one was really started
        self.up = True
        self.deaf = False  # events are lost
        self._containers: dict[str, Container] = {}  # by task id
        self._tasks: dict[str, Task] = {}
        self._made = 0
        self._held: dict[str, asyncio.Event] = {}
        self._listeners: set[asyncio.Queue[EngineEvent]] = set()

    # What the worker calls

    async def preflight(self) -> None:
        await self._enter("preflight", "")
        if self.problems:
            raise FailedPrecondition("; ".join(self.problems))

    async def describe(self) -> NodeDescription:
        await self._enter("describe", "")
        return self.description

    async def containers(self) -> dict[str, Container]:
        found = dict(self._containers)
        await self._enter("containers", "")
        return found

    async def inspect(self, task_id: str) -> Container | None:
        found = self._containers.get(task_id)
        await self._enter("inspect", task_id)
        return found

    async def pull(self, task: Task) -> None:
        image = task.spec.container_spec.image
        await self._enter("pull", image)
        if image in self.images:
            return
        if image not in self.registry:
            raise EngineError(self.pull_errors.get(image, f"manifest for {image} not found: manifest unknown"))
        self.images.add(image)

    async def create(self, task: Task) -> Container:
        await self._enter("create", task.id)
        there = self._containers.get(task.id)
        if there is not None:
            return there
        image = task.spec.container_spec.image
        if image not in self.images:
            raise EngineError(f"No such image: {image}")
        return self.plant(task)

    async def start(self, container_id: str) -> None:
        await self._enter("start", container_id)
        container = self._by_id(container_id)
        if container is None:
            raise EngineError(f"No such container: {container_id}")
        if container.state is ContainerState.RUNNING:
            return
        self.begun.append(container.task_id)
        check = self._tasks[container.task_id].spec.container_spec.healthcheck
        wanted = check is not None and check.test not in (None, [], ["NONE"])
        self._change(
            container,
            state=ContainerState.RUNNING,
            pid=1000 + int(container_id, 16),
            exit_code=None,
            health="starting" if wanted else None,
            ports=(opened := self._open(container)),
            open_to_all=opened,
            address=f"172.17.0.{1 + int(container_id, 16)}",
            started_at=self._stamp(),
        )

    async def stop(self, container_id: str, grace: float) -> None:
        await self._enter("stop", container_id)
        container = self._by_id(container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return
        if container.task_id not in self.stubborn:
            self.exit(container.task_id, TERMINATED)
            return
        await asyncio.sleep(grace)
        current = self._by_id(container_id)
        if current is not None and current.state is ContainerState.RUNNING:
            self.exit(container.task_id, KILLED)

    async def remove(self, container_id: str) -> None:
        await self._enter("remove", container_id)
        container = self._by_id(container_id)
        if container is not None:
            self.vanish(container.task_id)

    async def events(self) -> AsyncIterator[EngineEvent]:
        queue: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            if self.up:
                yield EngineEvent()
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    async def close(self) -> None:
        """Nothing is held."""

    # What a test makes happen

    def plant(self, task: Task) -> Container:
        """The task's container is there, whoever made it."""
        self._made += 1
        made = Container(id=f"{self._made:064x}", task_id=task.id, name=task.name, state=ContainerState.CREATED)
        self._containers[task.id], self._tasks[task.id] = made, task
        self.born.append(task.id)
        self._tell(EngineEvent(task.id))
        return made

    def exit(self, task_id: str, code: int, *, oom: bool = False) -> None:
        """The container's process ends by itself."""
        self._change(
            self._containers[task_id],
            state=ContainerState.EXITED,
            pid=0,
            exit_code=code,
            oom_killed=oom,
            ports=(),
            open_to_all=(),
            address="",
            finished_at=self._stamp(),
        )

    def set_health(self, task_id: str, health: str, output: str = "") -> None:
        """The health check came to another verdict."""
        self._change(self._containers[task_id], health=health, health_output=output)

    def vanish(self, task_id: str) -> None:
        """Somebody removes the container."""
        del self._containers[task_id], self._tasks[task_id]
        self._tell(EngineEvent(task_id))

    def engine_down(self) -> None:
        """The engine stops answering; containers run on."""
        self.up = False

    def engine_up(self) -> None:
        """The engine is back."""
        self.up = True
        self._tell(EngineEvent())

    def host_down(self) -> None:
        """The plug is pulled: the engine is away and every container has died."""
        self.engine_down()
        for task_id, container in list(self._containers.items()):
            if container.state is ContainerState.RUNNING:
                self.exit(task_id, 255)

    @contextmanager
    def held(self, method: str) -> Iterator[None]:
        """Calls of ``method`` reach the engine, and return only after this block."""
        self._held[method] = asyncio.Event()
        try:
            yield
        finally:
            self._held.pop(method).set()

    def container(self, task_id: str) -> Container | None:
        """What is there, whether the engine answers or not."""
        return self._containers.get(task_id)

    def made(self, task_id: str) -> Task:
        """The task as its container was made from it."""
        return self._tasks[task_id]

    def running(self) -> list[str]:
        """The tasks whose containers run."""
        return sorted(key for key, one in self._containers.items() if one.state is ContainerState.RUNNING)

    def called(self, method: str) -> list[str]:
        """The subjects of the calls of ``method``, oldest first."""
        return [call.subject for call in self.calls if call.method == method]

    # Inside

    async def _enter(self, method: str, subject: str) -> None:
        self.calls.append(Call(method, subject))
        self._answer()
        if method in self._held:
            await self._held[method].wait()
            self._answer()
        await asyncio.sleep(0)
        if method in self.errors:
            raise EngineError(self.errors[method])

    def _answer(self) -> None:
        if not self.up:
            raise EngineDown("the container engine does not answer: connection refused")

    def _by_id(self, container_id: str) -> Container | None:
        return next((one for one in self._containers.values() if one.id == container_id), None)

    def _change(self, container: Container, **fields: object) -> None:
        self._containers[container.task_id] = replace(container, **fields)  # type: ignore[arg-type]  # field names
        self._tell(EngineEvent(container.task_id))

    def _tell(self, event: EngineEvent) -> None:
        if not self.up or self.deaf:
            return
        for queue in self._listeners:
            queue.put_nowait(event)

    def _stamp(self) -> str:
        return f"{asyncio.get_running_loop().time():.9f}"

    def _open(self, container: Container) -> tuple[PortConfig, ...]:
        taken = {port.published_port for one in self._containers.values() for port in one.ports}
        opened: list[PortConfig] = []
        for port in self._tasks[container.task_id].ports:
            published = port.published_port or next(n for n in range(FIRST_FREE_PORT, 1 << 16) if n not in taken)
            if published in taken:
                raise EngineError(f"Bind for 0.0.0.0:{published} failed: port is already allocated")
            taken.add(published)
            opened.append(
                PortConfig(
                    protocol=port.protocol or "tcp",
                    target_port=port.target_port,
                    published_port=published,
                    publish_mode="host",
                )
            )
        return tuple(opened)
