# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest configs pass log, followers, snapshot and restart; what is too large is refused and harms nothing."""

import itertools

import pytest
from builders import replace

from covey.model.changes import Batch, Create
from covey.model.errors import InvalidArgument
from covey.model.objects import Service, StoredConfig
from covey.model.secret import Secret
from covey.model.spec import ConfigReference, ContainerSpec, DependencySpec, ServiceSpec, TaskSpec
from covey.plan.dependencies import new_value, resolved
from tests.raft.harness import eventually

LARGEST = 1000 * 1024 - 1
USERS = 50


def config(id_, fill):
    return StoredConfig(id=id_, spec=DependencySpec(name="conf"), data=Secret(bytes([fill]) * LARGEST))


def user(number):
    container = ContainerSpec(image="bb:1", configs=[ConfigReference(config_name="conf")], env=["X=" + "x" * 1000])
    return ServiceSpec(name=f"s{number}", task_template=TaskSpec(container_spec=container))


@pytest.fixture
def write(request):
    numbers = itertools.count()

    async def write(store, *changes):
        return await store.propose(Batch(f"large-{next(numbers)}", 1.0, changes), 10)

    return write


async def test_the_largest_values_reach_everybody_also_by_snapshot_and_after_a_restart(calm, write):
    founder = await calm.found()
    await calm.leader()
    await write(founder.store, Create(config("c0", 0)))
    follower = await calm.join("node-b")
    view = founder.store.view()
    specs = (resolved(view, user(number), None) for number in range(USERS))
    await write(founder.store, *(Create(Service(id=f"s{n}", spec=spec)) for n, spec in enumerate(specs)))
    for number in range(1, 10):
        view = founder.store.view()
        await write(
            founder.store, *new_value(view, view.dependency_named("config", "conf"), config(f"c{number}", number))
        )

    def holds(store):
        view = store.view()
        current = view.dependency_named("config", "conf")
        return current is not None and current.id == "c9" and current.data == config("c9", 9).data

    await eventually(lambda: holds(follower.store))
    assert founder.store.view() == follower.store.view()
    assert sorted(founder.store.view().configs) == [f"c{number}" for number in range(4, 10)]
    await founder.store.compact()
    await eventually(lambda: (founder.directory / "snapshot").exists())
    log = founder.store._engine._disk.log
    founder.store._engine.loop.call_soon_threadsafe(log.drop_before, founder.store.view().index)
    joiner = await calm.join("node-c")
    await eventually(lambda: holds(joiner.store))
    assert (joiner.directory / "snapshot").exists()
    await joiner.stop()
    await joiner.start()
    await eventually(lambda: holds(joiner.store))


async def test_a_transaction_that_is_too_large_is_refused_whole(calm, write):
    founder = await calm.found()
    await calm.leader()
    both = (Create(config("c0", 0)), Create(replace(config("c1", 1), spec=DependencySpec(name="other"))))
    index = await write(founder.store, both[0])
    with pytest.raises(InvalidArgument, match="at most 2097152 fit into one"):
        await write(
            founder.store,
            both[1],
            Create(replace(config("c2", 2), spec=DependencySpec(name="third"))),
            Create(replace(config("c3", 3), spec=DependencySpec(name="fourth"))),
        )
    assert list(founder.store.view().configs) == ["c0"]
    assert await write(founder.store, both[1]) > index
