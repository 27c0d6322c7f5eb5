# SPDX-License-Identifier: GPL-3.0-or-later
"""Convergence: told as soon as it is there, and if it is not, with what the tasks say."""

from __future__ import annotations

import asyncio

import pytest
from apis import Client, Swarm

from covey.api.convergence import STABLE
from covey.model.changes import ObserveNode
from covey.model.objects import NodeState, NodeStatus
from covey.model.tasks import TaskState


async def declare(swarm: Swarm, image="bb:1", mode=None, **template) -> str:
    spec = {
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": image}, **template},
        "Mode": mode or {"Replicated": {"Replicas": 2}},
    }
    answer = await swarm.client.post("/covey/v1/services/declare", {"Spec": spec})
    assert answer.status == 200, answer
    return f"/covey/v1/services/{answer.json['ID']}/convergence?version={answer.json['Version']}"


async def look(client: Client, url: str):
    answer = await client.get(url)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.parametrize("mode", [None, {"Global": {}}])
async def test_nothing_runs_yet(swarm: Swarm, mode):
    url = await declare(swarm, mode=mode)
    report = await look(swarm.client, url)
    assert (report["Converged"], report["Running"], report["Desired"]) == (False, 0, 3 if mode else 2)


@pytest.mark.parametrize("mode", [None, {"Global": {}}])
async def test_all_run(swarm: Swarm, mode):
    url = await declare(swarm, mode=mode)
    swarm.run()
    report = await look(swarm.client, url)
    assert report["Converged"] is True
    assert report["Running"] == report["Desired"]
    assert report["Failures"] == []


async def test_it_waits_until_all_run(swarm: Swarm):
    url = await declare(swarm)
    waiting = asyncio.create_task(look(swarm.client, url + "&wait=60"))
    await asyncio.sleep(5)
    assert not waiting.done()
    swarm.run()
    assert (await waiting)["Converged"] is True
    assert asyncio.get_running_loop().time() == 5


async def test_a_task_counts_once_it_has_run_for_a_while(swarm: Swarm):
    url = await declare(swarm)
    swarm.run(3)
    assert [task.status.state for task in swarm.store.view().tasks.values()] == [TaskState.RUNNING] * 2
    report = await look(swarm.client, url)
    assert (report["Converged"], report["Running"]) == (False, 2)
    assert (await look(swarm.client, url + "&stable=0"))["Converged"] is True
    assert (await look(swarm.client, url + "&wait=60"))["Converged"] is True
    assert asyncio.get_running_loop().time() == STABLE
    assert (await look(swarm.client, url + "&wait=60&stable=10"))["Converged"] is True
    assert asyncio.get_running_loop().time() == 10


async def test_a_task_that_only_starts_to_fail_never_counts(swarm: Swarm):
    url = await declare(swarm, image="crash")
    waiting = asyncio.create_task(look(swarm.client, url + "&wait=60&stable=5"))
    for _ in range(50):
        await asyncio.sleep(0.001)
        swarm.run(1)
    report = await waiting
    assert report["Converged"] is False
    assert {each["Error"] for each in report["Failures"]} == {"task: non-zero exit (1)"}


async def test_it_waits_no_longer_than_asked(swarm: Swarm):
    url = await declare(swarm)
    assert (await look(swarm.client, url + "&wait=7"))["Converged"] is False
    assert asyncio.get_running_loop().time() == 7


async def test_an_image_that_does_not_exist(swarm: Swarm):
    url = await declare(swarm, image="bad")
    swarm.run(20)
    report = await look(swarm.client, url)
    assert report["Converged"] is False
    assert [each["Slot"] for each in report["Failures"]] == [1, 2]
    failure = report["Failures"][0]
    assert failure["Error"] == "No such image: bad"
    assert failure["State"] == "rejected"
    assert failure["Hostname"] == f"{failure['NodeID']}-host"


async def test_failures_of_an_earlier_spec_are_not_told(swarm: Swarm):
    await declare(swarm, image="bad")
    swarm.run(20)
    url = await declare(swarm, image="bb:1")
    assert (await look(swarm.client, url))["Failures"] == []


async def test_no_node_that_fits(swarm: Swarm):
    url = await declare(swarm, Placement={"Constraints": ["node.labels.disk==ssd"]})
    swarm.run()
    report = await look(swarm.client, url)
    assert report["Converged"] is False
    assert all("no suitable node" in each["Error"] for each in report["Failures"])
    assert [(each["State"], each["NodeID"]) for each in report["Failures"]] == [("pending", "")] * 2


async def test_a_global_service_that_fits_nowhere_has_converged(swarm: Swarm):
    url = await declare(swarm, mode={"Global": {}}, Placement={"Constraints": ["node.labels.disk==ssd"]})
    swarm.run()
    report = await look(swarm.client, url)
    assert (report["Converged"], report["Desired"]) == (True, 0)


async def test_an_update_converges_when_the_last_old_task_is_gone(swarm: Swarm):
    await declare(swarm)
    swarm.run()
    url = await declare(swarm, image="bb:2")
    report = await look(swarm.client, url)
    assert (report["Converged"], report["Running"]) == (False, 0)
    seen = []
    for _ in range(40):
        swarm.run(1)
        report = await look(swarm.client, url)
        images = [
            task.spec.container_spec.image
            for task in swarm.store.view().tasks.values()
            if any(task.id in host.containers for host in swarm.world.hosts.values())
        ]
        seen.append(report["Converged"])
        assert not report["Converged"] or sorted(images) == ["bb:2", "bb:2"]
    assert seen[-1] is True
    assert (await look(swarm.client, url))["UpdateState"] == "completed"


async def test_a_paused_update_is_not_waited_for(swarm: Swarm):
    await declare(swarm)
    swarm.run(10)
    url = await declare(swarm, image="bad")
    swarm.run(20)
    report = await look(swarm.client, url + "&wait=60")
    assert (report["Converged"], report["UpdateState"]) == (False, "paused")
    assert [each["Error"] for each in report["Failures"]] == ["No such image: bad"]
    assert asyncio.get_running_loop().time() == 0


async def test_scaling_down_converges_when_the_rest_has_stopped(swarm: Swarm):
    await declare(swarm, mode={"Replicated": {"Replicas": 5}})
    swarm.run()
    url = await declare(swarm, mode={"Replicated": {"Replicas": 1}})
    swarm.world.plan()
    swarm.world._stirred = True
    swarm.world.plan()
    assert (await look(swarm.client, url))["Converged"] is False
    swarm.run()
    assert (await look(swarm.client, url))["Converged"] is True


async def test_a_node_that_is_down_holds_nothing_up(swarm: Swarm):
    url = await declare(swarm)
    swarm.run()
    lost = next(iter(swarm.store.view().tasks.values())).node_id
    swarm.world.hosts[lost].pull_plug()
    status = NodeStatus(state=NodeState.DOWN, since=swarm.world.now)
    swarm.world.commit(ObserveNode(lost, status))
    assert (await look(swarm.client, url))["Converged"] is False
    swarm.run()
    assert (await look(swarm.client, url))["Converged"] is True


async def test_tasks_that_are_done_for_good_have_converged(swarm: Swarm):
    url = await declare(swarm, image="once", RestartPolicy={"Condition": "none"})
    swarm.run(10)
    report = await look(swarm.client, url)
    assert (report["Converged"], report["Running"]) == (True, 0)


async def test_tasks_that_failed_for_good_have_not(swarm: Swarm):
    url = await declare(swarm, image="crash", RestartPolicy={"Condition": "none"})
    swarm.run(10)
    report = await look(swarm.client, url)
    assert report["Converged"] is False
    assert {each["Error"] for each in report["Failures"]} == {"task: non-zero exit (1)"}


async def test_a_service_that_goes_while_one_waits(swarm: Swarm):
    url = await declare(swarm)
    waiting = asyncio.create_task(swarm.client.get(url + "&wait=60"))
    await asyncio.sleep(1)
    await swarm.client.delete("/services/web")
    assert (await waiting).status == 404


async def test_a_later_version_is_not_there_yet(swarm: Swarm):
    url = await declare(swarm)
    swarm.run()
    assert (await look(swarm.client, url + "0"))["Converged"] is False


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=nan", "wait=inf", "version=x", "stable=x"])
async def test_numbers_that_are_none(swarm: Swarm, query):
    await declare(swarm)
    answer = await swarm.client.get(f"/covey/v1/services/web/convergence?{query}")
    assert answer.status == 400
    assert answer.message.startswith(query.split("=")[0])
