# SPDX-License-Identifier: GPL-3.0-or-later
"""One task's container brought to where it should be: looks, asks ``machine``, does what it says, looks again.

One keeper a task, so that nothing of one task ever runs twice at once.  Never in it: a decision.
"""

from __future__ import annotations

import asyncio
import logging

from covey.executor.base import Container, ContainerState
from covey.executor.translate import stop_grace
from covey.model.errors import CoveyError, EngineDown
from covey.model.objects import Task, TaskStatus
from covey.model.spec import ContainerSpec
from covey.model.tasks import TaskState, is_terminal, is_wanted
from covey.worker import machine
from covey.worker.floor import Floor
from covey.worker.machine import Action, Scene

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.25, 15.0


class Keeper:
    """``run`` until the task is in no assignment and has no container."""

    def __init__(self, task_id: str, floor: Floor) -> None:
        self.task_id = task_id
        self.task: Task | None = None
        self.status: TaskStatus | None = None
        self.looks = 0  # moves whenever what is known of the container may have changed
        self._floor = floor
        self._grace = stop_grace(ContainerSpec())
        self._container: Container | None = None
        self._stale, self._busy = True, False
        self._pulled = False
        self._furnished = True  # there may be files of it, from another run of the agent
        self._failed: Action | None = None
        self._failures, self._not_before = 0, 0.0
        self._wake = asyncio.Event()

    @property
    def container(self) -> Container | None:
        """As last seen."""
        return self._container

    @property
    def looked(self) -> bool:
        """It is known whether there is a container."""
        return self._container is not None or not self._stale

    def assign(self, task: Task | None) -> None:
        """What the managers want now; a status they know of and we do not is ours too."""
        self.task = task
        if task is not None:
            self._grace = stop_grace(task.spec.container_spec)
            if self.status is None or task.status.state > self.status.state:
                self.status = task.status
        self._wake.set()

    def touch(self) -> None:
        """The container may have changed: look at it."""
        self.looks += 1
        self._stale = True
        self._wake.set()

    def wake(self) -> None:
        """Something else changed: think again."""
        self._wake.set()

    def saw(self, container: Container | None, looks: int) -> None:
        """What a listing shows that began when ``looks`` was as given; too old, it makes us look for ourselves."""
        if self._busy or looks != self.looks:
            self.touch()
            return
        self._container, self._stale = container, False
        self._wake.set()

    async def run(self) -> None:
        """Until there is nothing left to keep."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle()
                await self._tidy()
            except Exception as error:  # noqa: BLE001 - it is on the task and in the log; other tasks must go on
                self._defect(error)
            self._floor.seen()
            if self._finished():
                self._floor.forget(self.task_id)
                return

    async def _tidy(self) -> None:
        """A task that does not run and never will has no use for its secrets."""
        runs = self._stale or (self._container is not None and self._container.state is ContainerState.RUNNING)
        if self._furnished and not runs and not self._may_run():
            self._furnished = False
            await self._floor.clear(self.task_id)

    def _may_run(self) -> bool:
        over = self.status is not None and is_terminal(self.status.state)
        return self.task is not None and is_wanted(self.task.desired_state) and not over

    def _finished(self) -> bool:
        return self.task is None and self._container is None and not self._stale

    async def _settle(self) -> None:
        """Step by step until there is nothing to do."""
        while True:
            if self._stale and not self._floor.engine_error and not await self._look():
                return
            step = machine.next_step(self._scene(), self._floor.clock.now())
            if isinstance(step, TaskStatus):
                self._note(step)
            elif step is None or self._pausing(step):
                return
            else:
                await self._act(step)

    def _scene(self) -> Scene:
        return Scene(
            task=self.task,
            status=self.status,
            container=self._container,
            pulled=self._pulled,
            failures=self._failures,
            engine_error=self._floor.engine_error,
            heard=self._floor.heard,
        )

    def _note(self, status: TaskStatus) -> None:
        self.status = status
        self._failures, self._failed = (self._failures, self._failed) if status.err else (0, None)
        self._floor.outbox.put(self.task_id, status)
        self._floor.changed()
        if status.err:
            log.warning("task %s is %s: %s", self._name(), status.state, status.err)

    def _name(self) -> str:
        return self.task.name if self.task else self.task_id

    async def _look(self) -> bool:
        self._stale, self._busy = False, True
        try:
            self._container = await self._floor.executor.inspect(self.task_id)
        except EngineDown as error:
            self._lost(error)
            return False
        except CoveyError as error:
            log.warning("container of task %s: %s", self._name(), error)
            self._stale = True
            self._retry_later(None)
            return False
        finally:
            self._busy = False
            self.looks += 1
        return True

    def _lost(self, error: EngineDown) -> None:
        """Whether what we asked for happened is unknown, so look once the engine answers again."""
        self._stale = True
        self._floor.engine_lost(str(error))

    async def _act(self, action: Action) -> None:
        scene = self._scene()
        self._busy = True
        try:
            await self._call(action)
        except EngineDown as error:
            self._lost(error)
        except CoveyError as error:
            self._refused(scene, action, str(error))
        else:
            self._failures, self._failed = 0, None
        finally:
            self._busy = False
            self.looks += 1

    async def _call(self, action: Action) -> None:
        executor = self._floor.executor
        if action is Action.PULL:
            await self._pull()
            return
        if action in (Action.CREATE, Action.START):
            await self._start_up(action)
            return
        self._stale = True
        if self._container is not None and action is Action.STOP:
            await executor.stop(self._container.id, self._grace)
        elif self._container is not None:
            await executor.remove(self._container.id)

    async def _start_up(self, action: Action) -> None:
        """Wait for our turn, and then only if it is still right."""
        async with self._floor.starts:
            if self.task is None or not self._is_right(action):
                return
            self._furnished = True
            furnished = await self._floor.furnish(self.task)
            if not self._is_right(action):
                return
            self._stale = True
            if action is Action.CREATE:
                self._container = await self._floor.executor.create(furnished)
                self._stale = False
            elif self._container is not None:
                await self._floor.executor.start(self._container.id)

    def _is_right(self, action: Action) -> bool:
        return not self._stale and machine.next_step(self._scene(), 0.0) == action

    async def _pull(self) -> None:
        """Wait for the image, but not once the task is not wanted any more."""
        if self.task is None:
            return
        pull = asyncio.ensure_future(self._floor.pulls.get(self.task))
        pull.add_done_callback(lambda _: self._wake.set())
        try:
            while not pull.done():
                await self._wake.wait()
                self._wake.clear()
                if self.task is None or not is_wanted(self.task.desired_state):
                    return
            await pull
            self._pulled = True
        finally:
            pull.cancel()

    def _refused(self, scene: Scene, action: Action, text: str) -> None:
        self._failures = self._failures + 1 if action is self._failed else 1
        self._failed = action
        status = machine.after_failure(scene, action, text, self._floor.clock.now())
        if status is not None:
            self._note(status)
        else:
            log.warning("could not %s the container of task %s: %s", action, self._name(), text)
        self._stale = True
        self._retry_later(action)

    def _retry_later(self, action: Action | None) -> None:
        pause = min(FIRST_RETRY * 2 ** min(self._failures, 10), LAST_RETRY)
        loop = asyncio.get_running_loop()
        self._not_before = loop.time() + pause
        self._failed = action
        loop.call_later(pause, self.wake)

    def _pausing(self, action: Action) -> bool:
        return action is self._failed and asyncio.get_running_loop().time() < self._not_before

    def _defect(self, error: Exception) -> None:
        """A fault of ours: this task cannot go on here, and a person must hear of it."""
        log.exception("task %s: the agent itself failed", self._name())
        if self.task is None or self.status is None or is_terminal(self.status.state):
            return
        state = TaskState.FAILED if self.status.state >= TaskState.STARTING else TaskState.REJECTED
        text = f"internal error of the agent: {type(error).__name__}: {error}"
        self._note(
            TaskStatus(
                state=state,
                timestamp=self._floor.clock.now(),
                message=self.status.message,
                err=text,
                container=self.status.container,
            )
        )
