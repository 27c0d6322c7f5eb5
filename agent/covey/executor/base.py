# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker needs of a container engine, and nothing about how tasks are decided.

One suite (agent/tests/contract/test_executor.py) holds every implementation to these words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from covey.model.objects import NodeDescription, Task
from covey.model.spec import PortConfig


class ContainerState(StrEnum):
    """``RUNNING`` also while paused, ``EXITED`` also while it is being removed."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of ours as the engine shows it; ``task_id`` comes from its label.

    ``health`` is None without a health check, else ``starting``, ``healthy`` or ``unhealthy``; it outlives the
    process.  ``health_output`` is what the last check printed.  ``ports`` are those the engine has open for it,
    ``open_to_all`` those of them that lead from every IPv4 address of the host to its ``address``.
    ``started_at`` and ``finished_at`` are the engine's own words, to be compared for equality only.
    """

    id: str
    task_id: str
    name: str
    state: ContainerState
    pid: int = 0
    exit_code: int | None = None
    error: str = ""
    oom_killed: bool = False
    health: str | None = None
    health_output: str = ""
    ports: tuple[PortConfig, ...] = ()
    open_to_all: tuple[PortConfig, ...] = ()
    address: str = ""
    started_at: str = ""
    finished_at: str = ""


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something may have changed: with ``task_id`` about that task's container, without it about everything."""

    task_id: str | None = None


class Executor(Protocol):
    """Containers of one node's tasks only.

    Every method raises EngineError with the engine's own text, EngineDown if it is silent: then the outcome is
    unknown, never "failed".  A cancelled call may still take effect.
    """

    async def preflight(self) -> None:
        """Raise FailedPrecondition, with one sentence a problem, if this engine cannot serve a node."""

    async def describe(self) -> NodeDescription:
        """The host and its engine."""

    async def containers(self) -> dict[str, Container]:
        """All containers that carry this node's task label, running or not, by task id."""

    async def inspect(self, task_id: str) -> Container | None:
        """That task's container, None if there is none."""

    async def pull(self, task: Task) -> None:
        """Make the task's image available; returns at once if the engine has that reference already."""

    async def create(self, task: Task) -> Container:
        """Make (do not start) the task's container; if it is there already, return that one."""

    async def start(self, container_id: str) -> None:
        """Start it; starting a running one is no error."""

    async def stop(self, container_id: str, grace: float) -> None:
        """Send the stop signal, after ``grace`` seconds kill; returns once it has exited.

        One that has exited, was never started or is gone is no error.
        """

    async def remove(self, container_id: str) -> None:
        """Remove it, running or not, with its anonymous volumes; an absent one is no error."""

    def events(self) -> AsyncIterator[EngineEvent]:
        """Wake-ups, without end.

        The first is a general one, once later changes will not be missed; so is the one that says the engine is
        back after it was away.
        """

    async def close(self) -> None:
        """Let go of the engine; containers are not touched."""
