# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next for one task, as a pure function of what is wanted, what is known and what is seen.

One step at a time: either the task climbs one rung, or one call is made to the engine, or there is nothing to do.
Never in it: a clock, an engine, a memory.

Invariants: a rung is never left downwards; a task runs at most once; before a manager was heard nothing is started,
stopped or removed; a silent engine decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from covey.executor.base import Container, ContainerState
from covey.model.objects import ContainerStatus, Task, TaskStatus
from covey.model.tasks import TaskState, is_terminal, is_wanted

S = TaskState
C = ContainerState

#: A removal that failed this often no longer holds up the word that the task has ended.
PATIENCE = 1


class Action(StrEnum):
    """A call to the engine."""

    PULL = "pull"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a decision may depend on.

    ``task`` is None for a container that no assignment names.  ``status`` is the highest rung known of it.
    ``container`` is None if there certainly is none.  ``pulled``: the image was made available.  ``failures`` counts
    those of the last action in a row.  ``engine_error`` is empty while the engine answers.  ``heard``: a manager has
    said in this run of the agent what this node should run.
    """

    task: Task | None
    status: TaskStatus | None
    container: Container | None
    pulled: bool = False
    failures: int = 0
    engine_error: str = ""
    heard: bool = True


#: The new status to report, the call to make, or nothing until something changes.
Step = TaskStatus | Action | None
_Rule = Callable[[Scene], Step]


def next_step(scene: Scene, now: float) -> Step:
    """The one entry point."""
    step = _decide(scene)
    if isinstance(step, Action):
        return step if scene.heard else None
    return None if step is None else msgspec.structs.replace(step, timestamp=now)


def _decide(scene: Scene) -> Step:
    if scene.engine_error:
        return _waiting(scene)
    if scene.task is None:
        return _discard(scene)
    if is_terminal(_state(scene)):
        return _over(scene)
    if scene.status is not None and scene.status.err and not scene.failures:
        return msgspec.structs.replace(scene.status, err="")  # what was in the way no longer is
    if not is_wanted(scene.task.desired_state):
        return _wind_down(scene)
    return _CLIMB[_state(scene)](scene)


def _state(scene: Scene) -> TaskState:
    return S.NEW if scene.status is None else scene.status.state


def _waiting(scene: Scene) -> Step:
    """The engine is silent: say so on a task that is held up by it; of all others nothing is known."""
    status = scene.status
    if scene.task is None or _state(scene) >= S.RUNNING:
        return None
    if status is None or status.state < S.ACCEPTED:
        return _accept(scene)
    return None if status.err == scene.engine_error else msgspec.structs.replace(status, err=scene.engine_error)


def _discard(scene: Scene) -> Step:
    """No assignment names it: stop and remove."""
    if scene.container is None:
        return None
    return Action.STOP if scene.container.state is C.RUNNING else Action.REMOVE


def _over(scene: Scene) -> Step:
    """The task has ended.  Its container stays, for its logs, unless it is to be removed."""
    container, wanted = scene.container, scene.task.desired_state if scene.task else S.REMOVE
    if container is None:
        return None
    if container.state is C.RUNNING:
        return Action.STOP
    if scene.status is not None and container.oom_killed:
        plain = _crash(replace(container, oom_killed=False))
        if scene.status.err == plain:  # the engine learned why only after it had told of the exit
            return msgspec.structs.replace(scene.status, err=_crash(container))
    return Action.REMOVE if wanted == S.REMOVE else None


def _wind_down(scene: Scene) -> Step:
    """Not wanted any more: stop it, and where it shall leave nothing behind, remove it before saying so."""
    container = scene.container
    if container is not None and container.state is C.RUNNING:
        return Action.STOP
    removal = scene.task is not None and scene.task.desired_state == S.REMOVE
    if container is not None and removal and scene.failures < PATIENCE and scene.heard:
        return Action.REMOVE
    return _climbed(scene, S.SHUTDOWN, "shutdown")


def _accept(scene: Scene) -> Step:
    return _climbed(scene, S.ACCEPTED, "accepted")


def _prepare(scene: Scene) -> Step:
    return _climbed(scene, S.PREPARING, "preparing")


def _preparing(scene: Scene) -> Step:
    if scene.container is not None:
        return _climbed(scene, S.READY, "prepared")
    return Action.CREATE if scene.pulled else Action.PULL


def _ready(scene: Scene) -> Step:
    container = scene.container
    if container is None:
        return _climbed(scene, S.REJECTED, "prepared", "the container was removed before it was started")
    wanted = scene.task is not None and scene.task.desired_state >= S.RUNNING
    if wanted or container.state is not C.CREATED:
        return _climbed(scene, S.STARTING, "starting")
    return None


def _starting(scene: Scene) -> Step:
    container = scene.container
    if container is None or container.state is C.EXITED:
        return _ended(scene)
    if container.state is C.CREATED:
        return Action.START
    if container.health == "unhealthy":
        return Action.STOP
    return None if container.health == "starting" else _climbed(scene, S.RUNNING, "started")


def _running(scene: Scene) -> Step:
    container = scene.container
    if container is None or container.state is not C.RUNNING:
        return _ended(scene)
    return Action.STOP if container.health == "unhealthy" else None


def _ended(scene: Scene) -> Step:
    """The process is no more, and nobody had asked for that."""
    container, was = scene.container, scene.status.message if scene.status else ""
    if container is None:
        return _climbed(scene, S.FAILED, was, "the container was removed")
    if container.health == "unhealthy":
        return _climbed(scene, S.FAILED, was, _unhealthy(container))
    if container.exit_code == 0 and not container.oom_killed:
        return _climbed(scene, S.COMPLETE, "finished")
    return _climbed(scene, S.FAILED, was, _crash(container))


def _unhealthy(container: Container) -> str:
    output = f"; the last check said: {container.health_output}" if container.health_output else ""
    return f"unhealthy container{output}"


def _crash(container: Container) -> str:
    """Begins as the peer's text does, which people search for."""
    text = f"task: non-zero exit ({container.exit_code})"
    if container.oom_killed:
        text += ": out of memory, killed by the kernel (raise the memory limit or use less)"
    return f"{text}: {container.error}" if container.error else text


_CLIMB: dict[TaskState, _Rule] = {
    S.NEW: _accept,
    S.PENDING: _accept,
    S.ASSIGNED: _accept,
    S.ACCEPTED: _prepare,
    S.PREPARING: _preparing,
    S.READY: _ready,
    S.STARTING: _starting,
    S.RUNNING: _running,
}


def _climbed(scene: Scene, state: TaskState, message: str, err: str = "") -> TaskStatus:
    return TaskStatus(
        state=state,
        message=message,
        err=err,
        container=_shown(scene.container) or (scene.status.container if scene.status else None),
        ports=scene.container.ports if scene.container else (),
    )


def _shown(container: Container | None) -> ContainerStatus | None:
    if container is None:
        return None
    return ContainerStatus(container_id=container.id, pid=container.pid, exit_code=container.exit_code)


def after_failure(scene: Scene, action: Action, text: str, now: float) -> TaskStatus | None:
    """What a refusal by the engine means for the task; None if only trying again can help.

    What cannot be prepared is rejected, what cannot be started has failed: the managers decide where and when to try
    anew.  Stopping and removing must succeed in the end, so the task only says what is in the way.
    """
    if scene.task is None or scene.status is None or is_terminal(scene.status.state):
        return None
    if action in (Action.PULL, Action.CREATE):
        failed = _climbed(scene, S.REJECTED, scene.status.message, text)
    elif action is Action.START:
        failed = _climbed(scene, S.FAILED, scene.status.message, text)
    else:
        failed = msgspec.structs.replace(scene.status, err=text)
    return None if failed.err == scene.status.err else msgspec.structs.replace(failed, timestamp=now)
