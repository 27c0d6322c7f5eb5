# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker Engine keeps to the Executor's contract, and what only a real engine can show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from builders import replace
from engines import FOREVER, OWNER, RealWorld, make_task
from executor_contract import ExecutorContract, seen, started

from covey.executor.docker import DockerExecutor
from covey.model.errors import EngineDown, EngineError, FailedPrecondition
from covey.model.objects import Task
from covey.model.spec import (
    BindOptions,
    Limit,
    Mount,
    MountType,
    PortConfig,
    Reservation,
    Resources,
    TmpfsOptions,
    VolumeOptions,
)
from covey.model.units import MIB, SECOND
from covey_lab.registry import Registry

pytestmark = pytest.mark.lab


@pytest.fixture
async def world(engine: Any) -> AsyncIterator[RealWorld]:
    opened = RealWorld(engine.url, engine.shell)
    yield opened
    await opened.close()


class TestDocker(ExecutorContract):
    """The suite, on ``world`` above."""


async def inspected(engine: Any, world: RealWorld, task: Task) -> dict[str, Any]:
    """What the engine itself says of a started task's container."""
    container = await started(world, task)
    [shown] = json.loads(engine.host.docker("inspect", container.id).out)
    return dict(shown)


async def test_every_field_we_act_on_reaches_the_engine(engine: Any, world: RealWorld) -> None:
    mounts = [
        Mount(
            type=MountType.BIND,
            source="/etc",
            target="/host",
            read_only=True,
            bind_options=BindOptions(propagation="rslave"),
        ),
        Mount(
            type=MountType.VOLUME,
            source="contract-volume",
            target="/data",
            volume_options=VolumeOptions(no_copy=True, labels={"of": "contract"}),
        ),
        Mount(type=MountType.TMPFS, target="/scratch", tmpfs_options=TmpfsOptions(size_bytes=MIB, mode=0o1770)),
    ]
    task = make_task(
        1,
        command=["sh"],
        args=FOREVER[1:],
        env=["A=1", "B=two words"],
        labels={"mine": "yes", "covey.task.id": "forged"},
        user="7:8",
        hostname="given",
        mounts=mounts,
        stop_signal="SIGUSR1",
        stop_grace_period=3 * SECOND,
        ports=(PortConfig(target_port=80, published_port=18081, protocol="udp", publish_mode="host"),),
    )
    limits = Resources(
        limits=Limit(nano_cpus=500_000_000, memory_bytes=64 * MIB), reservations=Reservation(memory_bytes=32 * MIB)
    )
    shown = await inspected(engine, world, _with_resources(task, limits))
    config, host = shown["Config"], shown["HostConfig"]
    assert (config["Entrypoint"], config["Cmd"]) == (["sh"], FOREVER[1:])
    assert {"A=1", "B=two words"} <= set(config["Env"])
    assert (config["User"], config["Hostname"]) == ("7:8", "given")
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGUSR1", 3)
    assert (host["NanoCpus"], host["Memory"], host["MemoryReservation"]) == (500_000_000, 64 * MIB, 32 * MIB)
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["PortBindings"] == {"80/udp": [{"HostIp": "", "HostPort": "18081"}]}
    assert shown["Name"] == f"/contract.1.{task.id}"
    seen_mounts = {one["Destination"]: one for one in shown["Mounts"]}
    assert (seen_mounts["/host"]["RW"], seen_mounts["/host"]["Propagation"]) == (False, "rslave")
    assert seen_mounts["/data"]["Name"] == "contract-volume"
    assert host["Mounts"][2]["TmpfsOptions"] == {"SizeBytes": MIB, "Mode": 0o1770}
    assert config["Labels"]["covey.task.id"] == task.id
    assert config["Labels"]["mine"] == "yes"
    assert config["Labels"]["com.docker.swarm.task.name"] == task.name
    assert config["Labels"]["com.docker.swarm.node.id"] == OWNER.node_id
    found = await seen(world, task)
    assert [(port.protocol, port.target_port, port.published_port) for port in found.ports] == [("udp", 80, 18081)]
    await world.executor.remove(found.id)
    engine.host.docker("volume", "rm", "contract-volume")


def _with_resources(task: Task, resources: Resources) -> Task:
    return replace(task, spec=replace(task.spec, resources=resources))


async def test_too_much_memory_is_seen_as_that(world: RealWorld) -> None:
    hungry = make_task(1, command=["sh", "-c", "sleep 0.5; exec dd if=/dev/zero of=/dev/null bs=256M count=1"])
    task = _with_resources(hungry, Resources(limits=Limit(memory_bytes=16 * MIB)))
    events = world.executor.events()
    await started(world, task)
    async with asyncio.timeout(60):
        async for _ in events:
            found = await seen(world, task)
            if found.oom_killed:  # known a moment after the exit
                break
    assert (found.state, found.exit_code) == ("exited", 137)


async def test_images_are_pulled_from_a_registry_by_tag_and_by_digest(
    engine: Any, world: RealWorld, registry: Registry
) -> None:
    reference = registry.reference("covey/web", "2")
    await world.executor.pull(make_task(1, image=reference))
    digests = engine.host.docker("inspect", "-f", '{{join .RepoDigests " "}}', reference).out.split()
    [pinned] = [one for one in digests if one.startswith(reference.rpartition(":")[0])]
    await world.executor.pull(make_task(1, image=pinned))
    await started(world, make_task(2, image=pinned, command=FOREVER))
    absent = pinned.partition("@")[0] + "@sha256:" + "0" * 64
    with pytest.raises(EngineError, match="manifest unknown"):
        await world.executor.pull(make_task(1, image=absent))
    with pytest.raises(EngineError, match=r"manifest unknown|not found"):
        await world.executor.pull(make_task(1, image=registry.reference("covey/web", "nope")))


async def test_a_mount_that_cannot_be_is_refused_in_the_engines_words(world: RealWorld) -> None:
    task = make_task(1, mounts=[Mount(type=MountType.BIND, source="/no/such/path", target="/x")])
    with pytest.raises(EngineError, match="bind source path does not exist: /no/such/path"):
        await started(world, task)


async def test_a_command_that_is_not_there_is_refused_in_the_engines_words(world: RealWorld) -> None:
    with pytest.raises(EngineError, match="no-such-program"):
        await started(world, make_task(1, command=["/no-such-program"]))
    assert (await seen(world, make_task(1))).state == "created"


async def test_an_engine_in_a_swarm_of_its_own_is_refused(engine: Any, world: RealWorld) -> None:
    engine.live_restore(False)  # the engine's own swarm mode does not go with it
    engine.host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        with pytest.raises(FailedPrecondition, match="own swarm mode is active; leave that swarm first"):
            await world.executor.preflight()
    finally:
        engine.host.docker("swarm", "leave", "--force")
        engine.live_restore(True)
    await world.executor.preflight()


async def test_no_engine_at_all_says_where_it_was_looked_for() -> None:
    with pytest.raises(EngineDown, match=r"container engine at unix:///nowhere\.sock does not answer"):
        await DockerExecutor(OWNER, "unix:///nowhere.sock").preflight()
