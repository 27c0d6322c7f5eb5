# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens to agent, engine, managers and processes, in any order: what must never be, and what must come."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from builders import S, replace
from house import IMAGE, NODE, House, InlineLoop
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.executor.base import ContainerState
from covey.executor.fake import FakeExecutor
from covey.model.objects import Task, TaskStatus
from covey.model.secret import Secret
from covey.model.session import Provision
from covey.model.spec import ContainerSpec, FileTarget, SecretReference, TaskSpec
from covey.model.tasks import is_terminal, is_wanted

TASKS = 2
HIDDEN = "correct horse battery staple"


@dataclass
class Fate:
    """A house, and the hands that move things in it; each move takes the number of a task."""

    house: House
    agent: AsyncExitStack = field(default_factory=AsyncExitStack)
    runs: bool = False
    reachable: bool = True
    numbers: Iterator[int] = field(default_factory=count)

    def moves(self) -> list[Callable[[str], Awaitable[None]]]:
        return [
            self.assign, self.start, self.shut_down, self.remove, self.take_away, self.crash, self.finish, self.vanish,
            self.engine, self.agent_moves, self.managers, self.drop, self.stranger, self.stubborn, self.time,
            self.reboot,
        ]  # fmt: skip

    async def assign(self, id_: str) -> None:
        self.house.managers.put(_task(f"{id_}+{next(self.numbers)}"))

    async def start(self, id_: str) -> None:
        self._want(id_, S.RUNNING)

    async def shut_down(self, id_: str) -> None:
        self._want(id_, S.SHUTDOWN)

    async def remove(self, id_: str) -> None:
        self._want(id_, S.REMOVE)

    def _want(self, id_: str, wanted: S) -> None:
        tasks = [one for one in self._like(id_) if one.desired_state < wanted]
        if tasks:
            self.house.managers.put(*(replace(one, desired_state=wanted, version=one.version + 1) for one in tasks))

    def _like(self, id_: str) -> list[Task]:
        return [one for one in self.house.managers.tasks.values() if one.id.startswith(id_)]

    async def take_away(self, id_: str) -> None:
        self.house.managers.take_away(*(one.id for one in self._like(id_)))

    async def crash(self, id_: str) -> None:
        for one in self._running(id_):
            self.house.engine.exit(one, 3)

    async def finish(self, id_: str) -> None:
        for one in self._running(id_):
            self.house.engine.exit(one, 0)

    async def vanish(self, id_: str) -> None:
        for one in self._running(id_):
            self.house.engine.vanish(one)

    def _running(self, id_: str) -> list[str]:
        return [one for one in self.house.engine.running() if one.startswith(id_)]

    async def engine(self, _: str) -> None:
        (self.house.engine.engine_down if self.house.engine.up else self.house.engine.engine_up)()

    async def agent_moves(self, _: str) -> None:
        if self.runs:
            await self.agent.aclose()
        else:
            await self.agent.enter_async_context(self.house.agent())
        self.runs = not self.runs

    async def managers(self, _: str) -> None:
        self.reachable = not self.reachable
        self.house.managers.absent = set() if self.reachable else {"a:2377", "b:2377", "c:2377"}
        await self.drop("")

    async def drop(self, _: str) -> None:
        if self.house.managers.session is not None:
            self.house.managers.session.end()

    async def stranger(self, id_: str) -> None:
        self.house.engine.plant(_task(f"stranger{id_}+{next(self.numbers)}"))

    async def stubborn(self, id_: str) -> None:
        self.house.engine.stubborn.update(one.id for one in self._like(id_))

    async def time(self, _: str) -> None:
        await asyncio.sleep(20)

    async def reboot(self, _: str) -> None:
        """Everything stops, and what was in memory is gone."""
        if self.runs:
            await self.agent_moves("")
        self.house.engine.host_down()
        self.house.files.sweep(())
        self.house.engine.engine_up()

    async def heal(self) -> None:
        """Everything answers again, and time passes."""
        if not self.house.engine.up:
            self.house.engine.engine_up()
        if not self.reachable:
            await self.managers("")
        if not self.runs:
            await self.agent_moves("")
        await asyncio.sleep(120)


class Watching(FakeExecutor):
    """Notes which containers were started without what they bind."""

    def __init__(self) -> None:
        super().__init__()
        self.bare: list[str] = []

    async def start(self, container_id: str) -> None:
        container = self._by_id(container_id)
        for mount in self.made(container.task_id).spec.container_spec.mounts or () if container else ():
            source = Path(mount.source or "")
            if container and not (source.exists() and source.read_text() == HIDDEN):  # noqa: ASYNC240 - virtual time
                self.bare.append(container.task_id)
        await super().start(container_id)


def _task(id_: str) -> Task:
    file = FileTarget(name="key", mode=0o400)
    secrets = [SecretReference(secret_id="k1", secret_name="key", file=file)]
    spec = TaskSpec(container_spec=ContainerSpec(image=IMAGE, secrets=secrets))
    status = TaskStatus(state=S.ASSIGNED)
    return Task(
        id=id_, service_id="s1", service_name="w", node_id=NODE, spec=spec, status=status, desired_state=S.READY
    )


#: Tasks come and start more often than anything else happens, or there would be nothing that it happens to.
MOVES = st.tuples(
    st.sampled_from([0, 0, 0, 0, 1, 1, 1, 1, *range(2, 16)]),
    st.integers(1, TASKS),
    st.sampled_from([0.0, 0.0, 0.001, 0.05, 1.0]),
)


@given(
    st.lists(MOVES, min_size=10, max_size=50),
    st.sampled_from(["", "create", "start", "stop", "remove", "inspect", "containers"]),
)
@settings(max_examples=150, deadline=None)
def test_any_fate(story: list[tuple[int, int, float]], slow: str) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        asyncio.Runner(loop_factory=InlineLoop) as runner,
    ):
        house = House(Path(directory) / "worker", Path(memory), Watching())
        house.managers.values["k1"] = Provision(id="k1", kind="secret", name="key", data=Secret(HIDDEN.encode()))
        runner.run(_live(house, story, slow))


async def _live(house: House, story: list[tuple[int, int, float]], slow: str) -> None:
    house.engine.images.add(IMAGE)
    fate = Fate(house)
    holding = house.engine.held(slow) if slow else nullcontext()
    await fate.agent_moves("")
    with holding:
        for move, number, pause in story:
            await fate.moves()[move](f"t{number}")
            await asyncio.sleep(pause)
    await fate.heal()
    assert (await house.engine.containers()).keys() <= house.managers.tasks.keys(), "something nobody wants is left"
    _check_liveness(house)
    await fate.agent.aclose()
    _check_safety(house)


def _check_safety(house: House) -> None:
    assert max(Counter(house.engine.born).values(), default=1) == 1, "a container was made twice"
    assert max(Counter(house.engine.begun).values(), default=1) == 1, "a task ran twice"
    assert house.engine.bare == [], "a container was started without its secret"
    for task_id in {one for _, report in house.managers.reports for one in report.statuses}:
        states = [status.state for status in house.managers.seen(task_id)]
        assert states == sorted(states), f"{task_id} went down the ladder: {states}"


def _check_liveness(house: House) -> None:
    tasks = house.managers.tasks
    kept = {path.name for path in house.memory.iterdir()}
    alive = {one.id for one in tasks.values() if not is_terminal(house.managers.seen(one.id)[-1].state)}
    assert kept <= alive, "a secret outlived its task"
    for one in tasks.values():
        status, container = house.managers.seen(one.id)[-1], house.engine.container(one.id)
        runs = container is not None and container.state is ContainerState.RUNNING
        if not is_wanted(one.desired_state):
            assert is_terminal(status.state)
            assert not runs
            assert one.desired_state != S.REMOVE or container is None
        elif not is_terminal(status.state):
            assert status.state == (S.READY if one.desired_state == S.READY else S.RUNNING)
            assert runs == (one.desired_state == S.RUNNING)
