# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines that the Executor's contract is held against, and what a test can make happen in each.

The fake needs nothing.  A real one is reached through its socket (``unix:///...``) and through the command prefix that
runs something on its host (``ssh root@10.86.1.1``); agent/tests/docker knows both.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import docker
from docker.errors import APIError

from covey.executor.base import Container, Executor
from covey.executor.docker import DockerExecutor
from covey.executor.fake import FakeExecutor
from covey.executor.translate import NODE_LABEL, Owner
from covey.model.objects import Task
from covey.model.spec import ContainerSpec, HealthConfig, PortConfig, TaskSpec
from covey.model.units import SECOND

OWNER = Owner(node_id="contractnode", cluster_id="contractcluster")
IMAGE = "covey/busybox:1"
#: Runs until it gets the stop signal, or until it finds its exit code in a file.
FOREVER = ["sh", "-c", "trap 'exit 143' TERM; until [ -s /tmp/exit ]; do sleep 0.05; done; exit $(cat /tmp/exit)"]
DEAF = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]


class EngineWorld(Protocol):
    """One engine and the hands that move things in it."""

    executor: Executor

    async def crash(self, container: Container, code: int) -> None:
        """The process ends by itself."""

    async def sicken(self, container: Container) -> None:
        """Its health check begins to fail."""

    async def take_away(self, container: Container) -> None:
        """Somebody removes it."""

    async def engine_down(self) -> None:
        """The engine stops; with live-restore its containers run on."""

    async def engine_up(self) -> None:
        """And starts again."""

    def deaf(self, task: Task) -> Task:
        """The same task, but its process ignores the stop signal."""

    async def close(self) -> None:
        """Leave nothing behind."""


def make_task(number: int, *, ports: tuple[PortConfig, ...] = (), image: str = IMAGE, **spec: object) -> Task:
    """A task that runs until it is told to stop."""
    words = {"image": image, "command": FOREVER, "stop_grace_period": 5 * SECOND, **spec}
    container = ContainerSpec(**words)  # type: ignore[arg-type]  # the caller's own field names
    return Task(
        id=f"contracttask{number}",
        service_id="contractservice",
        service_name="contract",
        slot=number,
        node_id=OWNER.node_id,
        spec=TaskSpec(container_spec=container),
        ports=ports,
    )


CHECKED = HealthConfig(
    test=["CMD-SHELL", "echo tired; test ! -e /tmp/ill"], interval=SECOND // 4, timeout=20 * SECOND, retries=1
)


class FakeWorld:
    """The engine in memory."""

    def __init__(self) -> None:
        self.executor: FakeExecutor = FakeExecutor()
        self.executor.images.add(IMAGE)

    async def crash(self, container: Container, code: int) -> None:
        self.executor.exit(container.task_id, code)

    async def sicken(self, container: Container) -> None:
        self.executor.set_health(container.task_id, "unhealthy", "tired")

    async def take_away(self, container: Container) -> None:
        self.executor.vanish(container.task_id)

    async def engine_down(self) -> None:
        self.executor.engine_down()

    async def engine_up(self) -> None:
        self.executor.engine_up()

    def deaf(self, task: Task) -> Task:
        self.executor.stubborn.add(task.id)
        return task

    async def close(self) -> None:
        """Nothing is left."""


class RealWorld:
    """A Docker Engine, through its socket and its host's shell."""

    def __init__(self, url: str, shell: Sequence[str]) -> None:
        self.executor: DockerExecutor = DockerExecutor(OWNER, url)
        self._url, self._shell = url, tuple(shell)

    async def crash(self, container: Container, code: int) -> None:
        await self._host("docker", "exec", container.id, "sh", "-c", f"echo {code} > /tmp/exit")

    async def sicken(self, container: Container) -> None:
        await self._host("docker", "exec", container.id, "touch", "/tmp/ill")

    async def take_away(self, container: Container) -> None:
        await self._host("docker", "rm", "-f", container.id)

    async def engine_down(self) -> None:
        await self._host("systemctl", "stop", "docker.socket", "docker.service")

    async def engine_up(self) -> None:
        await self._host("systemctl", "start", "docker.socket", "docker.service")

    def deaf(self, task: Task) -> Task:
        return make_task(task.slot, command=DEAF)

    async def close(self) -> None:
        await self.executor.close()
        await asyncio.to_thread(self._clean)

    def _clean(self) -> None:
        client = docker.APIClient(self._url, version="auto")
        mine = {"label": [f"{NODE_LABEL}={OWNER.node_id}"]}
        for found in client.containers(all=True, filters=mine):
            with suppress(APIError):
                client.remove_container(found["Id"], v=True, force=True)
        client.close()

    async def _host(self, *command: str) -> None:
        words = [*self._shell, shlex.join(command)]
        await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True, timeout=60)
