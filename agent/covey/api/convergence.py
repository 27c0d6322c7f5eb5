# SPDX-License-Identifier: GPL-3.0-or-later
"""``/covey/v1/services/{id}/convergence``: is a service what was declared, and if not, what do its tasks say.

Converged means: every place is held by a running task of today's spec (or by one that completed for good), nothing old
or surplus runs on any node that answers, and no update is under way or paused.
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

LONGEST_WAIT = 3600.0
#: Places told of in one answer; the others fail alike.
MOST_FAILURES = 50
_UNSETTLED = (UpdateState.UPDATING, UpdateState.PAUSED)


async def services(call: ManagerCall) -> Response:
    wait, version = _seconds(call.request.query, "wait"), int(_seconds(call.request.query, "version"))
    service: Service = call.view.find("service", call.args["id"])
    report = assess(call.view, service, version)
    leads = call.store.leadership().leading
    waiter = call.store.changed()
    try:
        async with asyncio.timeout(wait):
            while not report.is_final:
                await waiter.wait()
                if leads and not call.store.leadership().leading:
                    raise NotLeader(call.store.leadership().leader)
                view = call.store.view()
                report = assess(view, view.find("service", service.id), version)
    except TimeoutError:
        return Response.json(report)
    return Response.json(report)


def _seconds(query: Query, name: str) -> float:
    text = query.get(name, "0")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InvalidArgument(f"{text!r} is not a number of 0 or more", name)
    return min(number, LONGEST_WAIT) if name == "wait" else number


def assess(view: View, service: Service, version: int = 0) -> Convergence:
    """How far ``service`` is; one older than ``version`` is not what was asked about, and so is not converged."""
    drifted = Drift(view, service)
    tasks = list(view.tasks_of(service.id))
    filled = {slot_key(task) for task in tasks if _fills(view, task) and not drifted(task)}
    running = sum(is_running(task) and slot_key(task) in filled and not drifted(task) for task in tasks)
    desired = render.desired_tasks(service, view)
    state = service.update_status.state if service.update_status else None
    settled = state not in _UNSETTLED and not any(_lingers(view, task, drifted) for task in tasks)
    return Convergence(
        converged=settled and len(filled) == desired and service.version >= version,
        running=running,
        desired=desired,
        update_state=str(state or ""),
        version=service.version,
        failures=tuple(_failures(view, [task for task in tasks if slot_key(task) not in filled], drifted)),
    )


def _fills(view: View, task: Task) -> bool:
    """The task does what its place is for, or has done it for good."""
    if is_finished(task):
        return task.status.state is TaskState.COMPLETE
    return is_running(task) and not is_down(view.nodes.get(task.node_id))


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
