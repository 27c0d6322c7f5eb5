# SPDX-License-Identifier: GPL-3.0-or-later
"""``/covey/v1/services/{id}/convergence``: is a service what was declared, and if not, what do its tasks say.

Converged means: every place is held by a task of today's spec that has run for ``stable`` seconds (or has completed for
good), nothing old or surplus runs on any node that answers, and no update is under way or paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from covey.api import render
from covey.api.bodies import Convergence, Failure
from covey.api.call import ManagerCall
from covey.api.http import Query, Response
from covey.model.errors import InvalidArgument, NotLeader
from covey.model.objects import Service, Task, UpdateState
from covey.model.tasks import TaskState
from covey.plan.drift import Drift
from covey.plan.slots import is_down, is_finished, is_over, is_placed, is_running, slot_key
from covey.state.view import View
from covey.store.base import Waiter

LONGEST_WAIT = 3600.0
#: Seconds a task must have run to count, unless the caller says otherwise; less than that, and a task that only starts
#: in order to fail would count.
STABLE = 2.0
#: Places told of in one answer; the others fail alike.
MOST_FAILURES = 50
_UNSETTLED = (UpdateState.UPDATING, UpdateState.PAUSED)


async def services(call: ManagerCall) -> Response:
    query = call.request.query
    wait, stable = _number(query, "wait", 0.0), _number(query, "stable", STABLE)
    version = int(_number(query, "version", 0.0))
    service: Service = call.view.find("service", call.args["id"])
    leads, waiter, now = call.store.leadership().leading, call.store.changed(), call.clock.now
    report = assess(call.view, service, now() - stable, version)
    try:
        async with asyncio.timeout(wait):
            while not report.is_final:
                await _news(waiter, _ripens_in(call.store.view(), service.id, now() - stable))
                if leads and not call.store.leadership().leading:
                    raise NotLeader(call.store.leadership().leader)
                view = call.store.view()
                report = assess(view, view.find("service", service.id), now() - stable, version)
    except TimeoutError:
        return Response.json(report)
    return Response.json(report)


async def _news(waiter: Waiter, at_most: float | None) -> None:
    """Until the state changed, or a task has run for long enough."""
    work = asyncio.ensure_future(waiter.wait())
    try:
        await asyncio.wait({work}, timeout=at_most)
    finally:
        work.cancel()


def _ripens_in(view: View, service_id: str, since: float) -> float | None:
    """Seconds until the next running task counts."""
    young = (task.running_at for task in view.tasks_of(service_id) if is_running(task) and task.running_at > since)
    return min((started - since for started in young), default=None)


def _number(query: Query, name: str, default: float) -> float:
    text = query.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InvalidArgument(f"{text!r} is not a number of 0 or more", name)
    return min(number, LONGEST_WAIT) if name == "wait" else number


def assess(view: View, service: Service, since: float, version: int = 0) -> Convergence:
    """How far ``service`` is: what runs counts if it did so at ``since`` already.

    A service older than ``version`` is not what was asked about, and so is not converged.
    """
    drifted = Drift(view, service)
    tasks = list(view.tasks_of(service.id))
    running = [task for task in tasks if _runs(view, task) and not drifted(task)]
    done = (task for task in tasks if _is_done(task) and not drifted(task))
    filled = {slot_key(task) for task in (*done, *(task for task in running if task.running_at <= since))}
    desired = render.desired_tasks(service, view)
    state = service.update_status.state if service.update_status else None
    settled = state not in _UNSETTLED and not any(_lingers(view, task, drifted) for task in tasks)
    return Convergence(
        converged=settled and len(filled) == desired and service.version >= version,
        running=len(running),
        desired=desired,
        update_state=str(state or ""),
        version=service.version,
        failures=tuple(_failures(view, [task for task in tasks if slot_key(task) not in filled], drifted)),
    )


def _runs(view: View, task: Task) -> bool:
    return is_running(task) and not is_finished(task) and not is_down(view.nodes.get(task.node_id))


def _is_done(task: Task) -> bool:
    """The task has done for good what its place is for."""
    return is_finished(task) and task.status.state is TaskState.COMPLETE


def _lingers(view: View, task: Task, drifted: Drift) -> bool:
    """Something that should not run (any more) still does, where that can be known."""
    if not is_placed(task) or is_over(task) or is_down(view.nodes.get(task.node_id)):
        return False
    return task.desired_state > TaskState.COMPLETE or drifted(task)


def _failures(view: View, tasks: list[Task], drifted: Drift) -> Iterator[Failure]:
    """For each place that is not filled the newest task of today's spec that says what is wrong."""
    newest: dict[int | str, Task] = {}
    for task in sorted(tasks, key=lambda task: (task.created_at, task.version)):
        if task.status.err and not drifted(task):
            newest[slot_key(task)] = task
    for task in sorted(newest.values(), key=lambda task: (task.slot, task.node_id))[:MOST_FAILURES]:
        node = view.nodes.get(task.node_id)
        yield Failure(
            task_id=task.id,
            slot=task.slot,
            node_id=task.node_id,
            hostname=node.description.hostname if node else "",
            state=str(task.status.state),
            error=task.status.err,
        )
