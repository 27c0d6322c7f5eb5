# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories of one host: its agent, engine and managers come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from builders import S, replace
from house import IMAGE, NODE, House
from managers import now

from covey.executor.base import ContainerState
from covey.model.errors import BadState
from covey.model.objects import Task, TaskStatus
from covey.model.spec import ContainerSpec, HealthConfig, PortConfig, TaskSpec
from covey.worker.keeper import Keeper


def task(number: int = 1, wanted: S = S.RUNNING, *, image: str = IMAGE, **spec: Any) -> Task:
    return Task(
        id=f"t{number}",
        service_id="s1",
        service_name="web",
        slot=number,
        node_id=NODE,
        spec=TaskSpec(container_spec=ContainerSpec(image=image, **spec)),
        status=TaskStatus(state=S.ASSIGNED),
        desired_state=wanted,
    )


def states(house: House, task_id: str = "t1") -> list[S]:
    return [status.state for status in house.managers.seen(task_id)]


async def running(house: House, *tasks: Task) -> None:
    house.managers.put(*tasks)
    for one in tasks:
        await house.managers.until_state(one.id, S.RUNNING)


def want(house: House, wanted: S, *task_ids: str) -> None:
    house.managers.put(*(replace(house.managers.tasks[one], desired_state=wanted) for one in task_ids))


async def test_an_assigned_task_runs_and_says_so_with_its_container(house: House) -> None:
    house.engine.images.clear()
    house.engine.registry.add(IMAGE)
    async with house.agent():
        house.managers.put(replace(task(), ports=(PortConfig(target_port=80),)))
        status = await house.managers.until_state("t1", S.RUNNING)
        container = house.engine.container("t1")
        assert container is not None
        assert status.container is not None
        assert (status.container.container_id, status.container.pid) == (container.id, container.pid)
        assert [port.published_port for port in status.ports] == [32768]
    assert container.state is ContainerState.RUNNING


async def test_a_task_that_is_only_to_be_ready_waits_for_its_turn(house: House) -> None:
    async with house.agent():
        house.managers.put(task(wanted=S.READY))
        await house.managers.until_state("t1", S.READY)
        await asyncio.sleep(60)
        assert house.engine.called("start") == []
        want(house, S.RUNNING, "t1")
        await house.managers.until_state("t1", S.RUNNING)


async def test_a_crash_is_reported_at_once(house: House) -> None:
    async with house.agent():
        await running(house, task())
        await asyncio.sleep(10)
        began = now()
        house.engine.exit("t1", 137, oom=True)
        status = await house.managers.until_state("t1", S.FAILED)
        assert now() == began
        assert "out of memory" in status.err
        assert house.engine.container("t1") is not None  # for its logs


async def test_the_container_of_a_dead_task_goes_with_its_assignment(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.exit("t1", 0)
        await house.managers.until_state("t1", S.COMPLETE)
        house.managers.take_away("t1")
        await asyncio.sleep(1)
        assert house.engine.container("t1") is None


async def test_a_task_to_be_removed_is_gone_before_it_says_so(house: House) -> None:
    async with house.agent():
        await running(house, task())
        want(house, S.REMOVE, "t1")
        await house.managers.until_state("t1", S.SHUTDOWN)
        assert house.engine.container("t1") is None


async def test_a_task_to_be_stopped_keeps_its_container_and_has_its_grace(house: House) -> None:
    async with house.agent():
        await running(house, task(stop_grace_period=30 * 10**9))
        house.engine.stubborn.add("t1")
        began = now()
        want(house, S.SHUTDOWN, "t1")
        status = await house.managers.until_state("t1", S.SHUTDOWN)
        assert now() == began + 30
        assert status.container is not None
        assert status.container.exit_code == 137


async def test_an_image_that_is_nowhere_rejects_the_task_in_the_registrys_words(house: House) -> None:
    house.engine.pull_errors["nowhere"] = "pull access denied for nowhere"
    async with house.agent():
        house.managers.put(task(image="nowhere"))
        status = await house.managers.until_state("t1", S.REJECTED)
        assert status.err == "pull access denied for nowhere"


async def test_a_container_that_cannot_start_fails_the_task(house: House) -> None:
    house.engine.errors["start"] = "port is already allocated"
    async with house.agent():
        house.managers.put(task())
        status = await house.managers.until_state("t1", S.FAILED)
        assert status.err == "port is already allocated"
        assert len(house.engine.called("start")) == 1


async def test_many_tasks_of_one_image_pull_it_once_and_start_a_few_at_a_time(house: House) -> None:
    house.engine.images.clear()
    house.engine.registry.add(IMAGE)
    async with house.agent():
        with house.engine.held("start"):
            with house.engine.held("pull"):
                house.managers.put(*(task(number) for number in range(1, 21)))
                await asyncio.sleep(1)
                assert house.engine.called("pull") == [IMAGE]
            await asyncio.sleep(1)
            assert len(house.engine.called("start")) == 4
        for number in range(1, 21):
            await house.managers.until_state(f"t{number}", S.RUNNING)


async def test_a_pull_is_left_when_its_task_is_not_wanted_any_more(house: House) -> None:
    async with house.agent():
        with house.engine.held("pull"):
            house.managers.put(task(image="slow"))
            await asyncio.sleep(1)
            want(house, S.REMOVE, "t1")
            await house.managers.until_state("t1", S.SHUTDOWN, limit=1)


async def test_health_decides_when_a_task_runs_and_when_it_has_failed(house: House) -> None:
    async with house.agent():
        house.managers.put(task(healthcheck=HealthConfig(test=["CMD", "check"])))
        await house.managers.until_state("t1", S.STARTING)
        await asyncio.sleep(60)
        assert S.RUNNING not in states(house)
        house.engine.set_health("t1", "healthy")
        await house.managers.until_state("t1", S.RUNNING)
        house.engine.set_health("t1", "unhealthy", "no answer on 8080")
        status = await house.managers.until_state("t1", S.FAILED)
        assert status.err == "unhealthy container; the last check said: no answer on 8080"
        assert house.engine.running() == []


async def test_a_container_that_vanished_fails_the_task_and_is_not_made_again(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.vanish("t1")
        status = await house.managers.until_state("t1", S.FAILED)
        assert status.err == "the container was removed"
        await asyncio.sleep(60)
        assert len(house.engine.called("create")) == 1


async def test_a_container_that_cannot_be_stopped_is_tried_again_and_the_task_says_why(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.errors["stop"] = "did not receive an exit event"
        want(house, S.SHUTDOWN, "t1")
        await house.managers.until(lambda: house.managers.seen("t1")[-1].err == "did not receive an exit event")
        await asyncio.sleep(60)
        assert 5 < len(house.engine.called("stop")) < 12
        del house.engine.errors["stop"]
        status = await house.managers.until_state("t1", S.SHUTDOWN)
        assert status.err == ""


async def test_placeholders_are_filled_in_on_the_node(house: House) -> None:
    async with house.agent():
        house.managers.put(task(1, env=["AT={{.Node.Hostname}}/{{.Task.Slot}}"]), task(2, hostname="{{.Nope}}"))
        await house.managers.until_state("t1", S.RUNNING)
        made = house.engine.made("t1")
        assert made.spec.container_spec.env == ["AT=fake/1"]
        status = await house.managers.until_state("t2", S.REJECTED)
        assert "{{.Nope}} is not a placeholder" in status.err


async def test_a_fault_of_the_agent_costs_one_task_only(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    create = house.engine.create

    async def faulty(one: Task) -> Any:
        return {}["missing"] if one.id == "t1" else await create(one)

    monkeypatch.setattr(house.engine, "create", faulty)
    async with house.agent():
        house.managers.put(task(1), task(2))
        status = await house.managers.until_state("t1", S.REJECTED)
        assert status.err == "internal error of the agent: KeyError: 'missing'"
        await house.managers.until_state("t2", S.RUNNING)


# The engine goes away


async def test_while_the_engine_is_silent_nothing_is_reported_nor_made_again(
    house: House,
) -> None:
    async with house.agent():
        await running(house, task(1), task(2))
        calls, reports = len(house.engine.called("create")), len(house.managers.reports)
        house.engine.engine_down()
        house.engine.exit("t2", 1)
        await asyncio.sleep(60)
        assert len(house.managers.reports) == reports
        house.engine.engine_up()
        await house.managers.until_state("t2", S.FAILED)
        assert states(house, "t1")[-1] == S.RUNNING
        assert len(house.engine.called("create")) == calls
        assert house.engine.running() == ["t1"]


async def test_a_task_that_waits_for_the_engine_says_so_and_goes_on_when_it_is_back(house: House) -> None:
    async with house.agent() as worker:
        await running(house, task(1))
        house.engine.engine_down()
        house.managers.put(task(2))
        await house.managers.until(lambda: any("does not answer" in one.err for one in house.managers.seen("t2")))
        assert "does not answer" in worker.engine_error
        house.engine.engine_up()
        status = await house.managers.until_state("t2", S.RUNNING)
        assert (status.err, worker.engine_error) == ("", "")


async def test_a_start_whose_outcome_is_unknown_is_looked_at_not_repeated(house: House) -> None:
    async with house.agent():
        house.managers.put(task())
        with house.engine.held("create"):
            await asyncio.sleep(1)
            house.engine.engine_down()
        await asyncio.sleep(5)
        house.engine.engine_up()
        await house.managers.until_state("t1", S.RUNNING)
        assert house.engine.running() == ["t1"]


async def test_an_engine_that_returns_as_another_release_is_described_anew(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.engine_down()
        await asyncio.sleep(5)
        facts = replace(house.engine.description.engine, version="29.0")
        house.engine.description = replace(house.engine.description, engine=facts)
        house.engine.engine_up()
        await house.managers.until(lambda: bool(house.managers.described))
        assert house.managers.described[-1].engine.version == "29.0"


async def test_a_crash_whose_event_was_lost_is_noticed_within_a_minute(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.deaf = True
        house.engine.exit("t1", 1)
        await house.managers.until_state("t1", S.FAILED, limit=61)


# The agent restarts


async def test_a_restarted_agent_goes_on_where_it_was(house: House) -> None:
    async with house.agent():
        await running(house, task(1), task(2))
    before = house.engine.container("t1")
    house.engine.exit("t2", 1)
    house.managers.reports.clear()
    async with house.agent():
        await house.managers.until_state("t2", S.FAILED)
        await house.managers.until_state("t1", S.RUNNING)
    assert house.engine.container("t1") == before
    assert len(house.engine.called("create")) == 2


async def test_without_managers_a_restarted_agent_touches_nothing(house: House) -> None:
    async with house.agent():
        await running(house, task(1), task(2), task(3))
        house.managers.put(task(4, wanted=S.READY))
        await house.managers.until_state("t4", S.READY)
        house.engine.stubborn.add("t2")
        want(house, S.REMOVE, "t2")
        await asyncio.sleep(1)
    house.managers.absent.update({"a:2377", "b:2377", "c:2377"})
    stranger = await house.engine.create(replace(task(9), status=TaskStatus()))
    await house.engine.start(stranger.id)
    house.engine.exit("t3", 1)
    house.engine.calls.clear()
    async with house.agent() as worker:
        await asyncio.sleep(3600)
        for method in ("create", "start", "stop", "remove", "pull"):
            assert house.engine.called(method) == []
        assert worker.statuses()["t3"].state is S.FAILED
        house.managers.absent.clear()
        await house.managers.until_state("t2", S.SHUTDOWN)
        await asyncio.sleep(30)
        assert house.engine.container("t9") is None  # no assignment names it, and now that is certain
        assert house.engine.running() == ["t1"]


async def test_an_agent_that_lost_its_book_adopts_what_runs(house: House) -> None:
    async with house.agent():
        await running(house, task())
    for file in house.directory.iterdir():
        file.unlink()
    house.managers.reports.clear()
    before = house.engine.container("t1")
    async with house.agent():
        await house.managers.until_state("t1", S.RUNNING)
    assert house.engine.container("t1") == before
    assert len(house.engine.called("create")) == 1


async def test_after_a_reboot_what_ran_has_failed_and_is_not_started_again(house: House) -> None:
    async with house.agent():
        await running(house, task())
    house.engine.host_down()
    house.engine.engine_up()
    house.managers.reports.clear()
    async with house.agent():
        status = await house.managers.until_state("t1", S.FAILED)
        assert status.err == "task: non-zero exit (255)"
        await asyncio.sleep(60)
        assert len(house.engine.called("start")) == 1


async def test_an_ended_task_stays_ended_though_its_container_was_pruned(house: House) -> None:
    async with house.agent():
        await running(house, task())
        house.engine.exit("t1", 1)
        await house.managers.until_state("t1", S.FAILED)
        await asyncio.sleep(1)
    house.engine.vanish("t1")
    async with house.agent():
        await asyncio.sleep(60)
        assert len(house.engine.called("create")) == 1


async def test_a_damaged_book_keeps_the_agent_from_starting(house: House) -> None:
    async with house.agent():
        await running(house, task())
    path = house.directory / "assignments"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadState, match=r"assignments: it is truncated or damaged"):
        async with house.agent():
            await asyncio.sleep(3600)
    assert house.engine.running() == ["t1"]


async def test_a_full_disk_does_not_stop_the_work(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with house.agent():
        await running(house, task(1))
        house.directory.rename(house.directory.with_name("elsewhere"))
        house.directory.write_text("the disk is full")
        await running(house, task(2))
        assert "assignments could not be written" in caplog.text
        house.directory.unlink()
        house.directory.with_name("elsewhere").rename(house.directory)
        await asyncio.sleep(10)
    assert {one.id for one in house.book.load().tasks} == {"t1", "t2"}


def test_a_listing_older_than_the_last_look_is_not_believed() -> None:
    keeper = Keeper("t1", None)  # type: ignore[arg-type]  # it asks nothing of the floor here
    began = keeper.looks
    keeper.touch()
    keeper.saw(None, began)
    assert keeper.looks == began + 2
