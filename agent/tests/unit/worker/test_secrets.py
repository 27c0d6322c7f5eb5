# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configs on one host: there for the container that may see them, in memory only, and gone in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from builders import S, replace
from house import IMAGE, NODE, House

from covey.model.objects import Task, TaskStatus
from covey.model.secret import Secret
from covey.model.session import Provision
from covey.model.spec import ConfigReference, ContainerSpec, FileTarget, Mount, MountType, SecretReference, TaskSpec

HIDDEN = "correct horse battery staple"
KEY = SecretReference(secret_id="k1", secret_name="key", file=FileTarget(name="key", uid="0", gid="0", mode=0o400))
CONF = ConfigReference(config_id="c1", config_name="conf", file=FileTarget(name="/etc/app.conf", uid="0", gid="0"))


def task(number: int = 1, wanted: S = S.RUNNING, **spec: Any) -> Task:
    container = ContainerSpec(image=IMAGE, **{"secrets": [KEY], "configs": [CONF], **spec})
    return Task(
        id=f"t{number}",
        service_id="s1",
        service_name="web",
        service_labels={"color": "red"},
        slot=number,
        node_id=NODE,
        spec=TaskSpec(container_spec=container),
        status=TaskStatus(state=S.ASSIGNED),
        desired_state=wanted,
    )


def secret(text: str = HIDDEN, template: str = "") -> Provision:
    return Provision(id="k1", kind="secret", name="key", data=Secret(text.encode()), template=template)


def config(text: str = "port = 80", template: str = "") -> Provision:
    return Provision(id="c1", kind="config", name="conf", data=Secret(text.encode()), template=template)


@pytest.fixture
def house(house: House, memory: Path) -> House:
    """It has been given a secret and a config."""
    house.memory = memory
    house.managers.values.update(k1=secret(), c1=config())
    return house


def mounts(house: House, task_id: str = "t1") -> list[Mount]:
    return house.engine.made(task_id).spec.container_spec.mounts or []


def content(mount: Mount) -> str:
    """What the container reads there."""
    return Path(mount.source or "").read_text()


async def running(house: House, *tasks: Task) -> None:
    house.managers.put(*tasks)
    for one in tasks:
        await house.managers.until_state(one.id, S.RUNNING)


def want(house: House, wanted: S, task_id: str = "t1") -> None:
    house.managers.put(replace(house.managers.tasks[task_id], desired_state=wanted))


def files(house: House) -> list[str]:
    return sorted(path.name for path in house.memory.iterdir()) if house.memory.exists() else []


async def test_each_is_bound_to_its_target_read_only(house: House):
    other = Mount(type=MountType.TMPFS, target="/tmp")
    async with house.agent():
        await running(house, task(mounts=[other]))
        first, key, conf = mounts(house)
    assert first == other
    assert [(one.type, one.target, one.read_only) for one in (key, conf)] == [
        (MountType.BIND, "/run/secrets/key", True),
        (MountType.BIND, "/etc/app.conf", True),
    ]
    assert [content(one) for one in (key, conf)] == [HIDDEN, "port = 80"]


async def test_nothing_of_it_reaches_the_disk_or_the_engine(house: House):
    async with house.agent():
        await running(house, task(env=["A=b"]))
        await asyncio.sleep(5)
    for path in house.directory.rglob("*"):
        assert HIDDEN.encode() not in path.read_bytes()
    assert HIDDEN not in repr(house.engine.made("t1"))


async def test_files_go_when_the_task_has_ended_though_its_container_stays(house: House):
    async with house.agent():
        await running(house, task())
        house.engine.exit("t1", 1)
        await house.managers.until_state("t1", S.FAILED)
        await asyncio.sleep(0)
        assert house.engine.container("t1") is not None
        assert files(house) == []


async def test_files_stay_until_a_container_that_shall_go_has_stopped(house: House):
    async with house.agent():
        await running(house, task(stop_grace_period=30 * 10**9))
        house.engine.stubborn.add("t1")
        house.managers.values.clear()  # what the managers do at once
        want(house, S.SHUTDOWN)
        await asyncio.sleep(29)
        assert files(house) == ["t1"]
        await house.managers.until_state("t1", S.SHUTDOWN)
        await asyncio.sleep(0)
        assert files(house) == []


async def test_two_tasks_have_files_of_their_own(house: House):
    async with house.agent():
        await running(house, task(1), task(2))
        assert files(house) == ["t1", "t2"]
        want(house, S.REMOVE, "t1")
        await house.managers.until_state("t1", S.SHUTDOWN)
        await asyncio.sleep(0)
        assert files(house) == ["t2"]


async def test_what_is_withdrawn_is_forgotten(house: House):
    async with house.agent():
        await running(house, task())
        house.managers.values.clear()
        house.managers.put(task(2))
        status = await house.managers.until_state("t2", S.REJECTED)
        assert status.err == "secret key (k1) is no longer in the cluster"


async def test_what_a_new_session_does_not_list_is_forgotten(house: House):
    async with house.agent():
        await running(house, task())
        house.managers.values.clear()
        house.managers.lose()
        house.managers.leader = "b:2377"
        await house.managers.until(lambda: house.managers.sessions == 2)
        house.managers.put(task(2))
        assert "no longer in the cluster" in (await house.managers.until_state("t2", S.REJECTED)).err


async def test_an_agents_restart_leaves_running_containers_theirs_and_gets_values_again(house: House):
    async with house.agent():
        await running(house, task())
    started = list(house.engine.begun)
    assert files(house) == ["t1"]
    async with house.agent():
        await house.managers.until(lambda: house.managers.sessions == 2)
        await asyncio.sleep(5)
        assert house.engine.begun == started
        assert files(house) == ["t1"]
        await running(house, task(2))
        assert content(mounts(house, "t2")[0]) == HIDDEN


async def test_a_container_made_before_a_restart_is_started_only_with_its_files(house: House, memory: Path):
    async with house.agent():
        house.managers.put(task(wanted=S.READY))
        await house.managers.until_state("t1", S.READY)
        bound = mounts(house)[0]
    house.files.sweep(())  # the host was booted anew
    house.managers.leader = None
    async with house.agent():
        await asyncio.sleep(30)
        assert house.engine.begun == []
        house.managers.leader = "a:2377"
        want(house, S.RUNNING)
        await house.managers.until_state("t1", S.RUNNING)
        assert content(bound) == HIDDEN


async def test_files_of_nobody_are_swept_at_the_start(house: House):
    (house.memory / "stranger").mkdir(parents=True)
    async with house.agent():
        await running(house, task())
        assert files(house) == ["t1"]


async def test_a_disk_in_place_of_memory_rejects_the_task(house: House, tmp_path: Path):
    house.memory = tmp_path / "tasks"
    async with house.agent():
        house.managers.put(task())
        assert "secrets would reach a disk" in (await house.managers.until_state("t1", S.REJECTED)).err


async def test_templates_are_filled_in_for_each_task(house: House):
    text = 'n={{.Task.Slot}} c={{ index .Service.Labels "color" }} k={{secret "key"}} e={{env "A"}}'
    house.managers.values["c1"] = config(text, "golang")
    async with house.agent():
        await running(house, task(1, env=["A={{.Service.Name}}"]), task(2, env=["A=x"]))
        contents = [content(mounts(house, name)[1]) for name in ("t1", "t2")]
    assert contents == [f"n=1 c=red k={HIDDEN} e=web", f"n=2 c=red k={HIDDEN} e=x"]


async def test_without_a_driver_braces_are_only_braces(house: House):
    house.managers.values["c1"] = config("{{ .Nothing }}")
    async with house.agent():
        await running(house, task())
        assert content(mounts(house)[1]) == "{{ .Nothing }}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{HIDDEN}{{{{ range }}}}", "secret key: placeholder 1 cannot be filled in for this service"),
        (f"{{{{.Node.ID}}}}{HIDDEN}{{{{printf 1}}}}", "secret key: placeholder 2 cannot be filled in"),
        (f"{HIDDEN}{{{{", "secret key: a placeholder is not closed"),
        ('{{secret "other"}}', "secret key: it refers to secret other, which the task does not have"),
        ('{{env "PATH"}}', "secret key: it refers to env PATH"),
    ],
)
async def test_a_template_that_cannot_be_filled_in_rejects_the_task_and_stays_hidden(
    house: House, text: str, reason: str
):
    house.managers.values["k1"] = secret(text, "golang")
    async with house.agent():
        house.managers.put(task())
        status = await house.managers.until_state("t1", S.REJECTED)
        assert status.err.startswith(reason)
        assert HIDDEN not in status.err
        assert files(house) == []
