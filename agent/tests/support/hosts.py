# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of a simulated world: it does with its tasks, one second at a time, what a worker and an engine would.

What happens to a container is told by its image: ``bad`` cannot be pulled, ``crash`` fails after two seconds, ``once``
ends well after two, ``slow`` takes five seconds to stop; anything else runs until stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from covey.model.objects import Task, TaskStatus
from covey.model.tasks import TaskState, is_terminal


@dataclass
class Host:
    """``powered`` and ``linked`` (to the managers) are for tests to switch; the rest is its own."""

    id: str
    powered: bool = True
    linked: bool = True
    tasks: dict[str, Task] = field(default_factory=dict)  # as last assigned, on disk
    states: dict[str, TaskState] = field(default_factory=dict)  # as last observed here, on disk
    containers: dict[str, float] = field(default_factory=dict)  # running ones: task id -> since when
    stopping: dict[str, float] = field(default_factory=dict)  # signalled, not yet stopped: task id -> since when
    news: dict[str, TaskStatus] = field(default_factory=dict)  # not yet reported

    def take(self, complete: bool, tasks: tuple[Task, ...], removed: tuple[str, ...]) -> None:
        """Assignments arrive; what is not listed any more goes at once, container and all."""
        gone = set(removed) | (self.tasks.keys() - {task.id for task in tasks} if complete else set())
        for task_id in gone:
            for table in (self.tasks, self.states, self.containers, self.stopping, self.news):
                table.pop(task_id, None)
        for task in tasks:
            self.tasks[task.id] = task
            self.states[task.id] = max(self.states.get(task.id, TaskState.ASSIGNED), task.status.state)

    def pull_plug(self) -> None:
        """All containers die; the disk stays."""
        self.powered = False
        self.containers.clear()

    def kill(self, task_id: str) -> None:
        """The task's process is killed from outside."""
        del self.containers[task_id]

    def work(self, now: float) -> None:
        """One second: each task goes one step."""
        if not self.powered:
            return
        for task_id, task in self.tasks.items():
            state, err = self._step(task, self.states[task_id], now)
            if state is not self.states[task_id]:
                self.states[task_id] = state
                self.news[task_id] = TaskStatus(state=state, timestamp=now, err=err)

    def _step(self, task: Task, state: TaskState, now: float) -> tuple[TaskState, str]:
        if is_terminal(state):
            return state, ""
        image = task.spec.container_spec.image
        if task.desired_state > TaskState.COMPLETE:
            begun = self.stopping.setdefault(task.id, now)
            if image == "slow" and task.id in self.containers and now - begun < 5:
                return state, ""
            self.containers.pop(task.id, None)
            return TaskState.SHUTDOWN, ""
        if state < TaskState.READY:
            return (TaskState.REJECTED, "No such image: bad") if image == "bad" else (TaskState.READY, "")
        if state is TaskState.READY:
            if task.desired_state is TaskState.READY:
                return state, ""
            self.containers[task.id] = now
            return TaskState.RUNNING, ""
        since = self.containers.get(task.id)
        if since is None:
            return TaskState.FAILED, "task: non-zero exit (137)"
        if image in ("crash", "once") and now - since >= 2:
            del self.containers[task.id]
            return (TaskState.FAILED, "task: non-zero exit (1)") if image == "crash" else (TaskState.COMPLETE, "")
        return state, ""
