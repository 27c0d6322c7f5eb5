# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of every plan in every world, whatever happens: the safety properties."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from covey.model.objects import Service, Task
from covey.model.tasks import TaskState, is_wanted
from covey.plan.placement.board import host_ports, reservation
from covey.plan.placement.constraint import broken, runs_on
from covey.plan.slots import is_down, is_finished, is_over, is_placed, is_running, slot_key
from covey.state.view import View

if TYPE_CHECKING:
    from worlds import World


def hold(world: World) -> None:
    """After a plan."""
    view = world.view
    one_wanted_task_a_slot(view)
    wanted_slots_match_replicas(view)
    nobody_answers_for_no_task(view)
    hold_at_rest(world)


def hold_at_rest(world: World) -> None:
    """At any time."""
    no_slot_runs_twice(world)


def hold_for(before: View, after: View, now: float) -> None:
    """Of the step that a plan makes."""
    placed_tasks_fit(before, after)
    updates_leave_enough_running(before, after)
    nothing_runs_before_its_time(before, after, now)


def one_wanted_task_a_slot(view: View) -> None:
    for service in view.services.values():
        wanted = Counter(slot_key(task) for task in view.tasks_of(service.id) if is_wanted(task.desired_state))
        assert not wanted or max(wanted.values()) == 1, f"{service.spec.name}: two wanted tasks in one slot: {wanted}"


def wanted_slots_match_replicas(view: View) -> None:
    for service in view.services.values():
        if not service.is_global:
            slots = [task.slot for task in view.tasks_of(service.id) if is_wanted(task.desired_state)]
            assert len(slots) == service.replicas, f"{service.spec.name}: slots {slots} for {service.replicas} replicas"


def nobody_answers_for_no_task(view: View) -> None:
    for task in view.tasks.values():
        known = task.service_id in view.services or not is_wanted(task.desired_state)
        assert known, f"{task.name} is wanted, but its service is gone"


def no_slot_runs_twice(world: World) -> None:
    """Two containers in one slot only if the one's node had been given up since it was placed there."""
    alive: dict[object, list[Task]] = defaultdict(list)
    for host in world.hosts.values():
        for task_id in host.containers:
            task = world.view.tasks.get(task_id)
            if task is None or host.id not in world.view.nodes or world.downs.get(host.id, -1.0) >= task.created_at:
                continue
            alive[task.service_id, slot_key(task)].append(task)
    for tasks in alive.values():
        assert len(tasks) == 1, f"a slot runs twice: {[(task.name, task.node_id) for task in tasks]}"


def placed_tasks_fit(before: View, after: View) -> None:
    """No task is put on a node that fails a filter, counting all that is put there at once."""
    touched = set()
    for task in after.tasks.values():
        old = before.tasks.get(task.id)
        if not is_placed(task) or (old is not None and is_placed(old)):
            continue
        node = after.nodes[task.node_id]
        assert node.schedulable, f"{task.name} was put on {node.id}, which takes no tasks"
        assert not broken(task.spec.placement, node), f"{task.name} was put on {node.id} against a constraint"
        assert runs_on(task.spec.placement, node), f"{task.name} was put on {node.id} of another platform"
        touched.add(node.id)
    for node_id in touched:
        node = after.nodes[node_id]
        held = [task for task in after.tasks_on(node_id) if is_placed(task) and not is_over(task)]
        cpus, memory = (sum(parts) for parts in zip(*map(reservation, held), strict=True))
        room = cpus <= node.description.nano_cpus and memory <= node.description.memory_bytes
        assert room, f"more is reserved on {node_id} than it has"
        ports = Counter(port for task in held for port in host_ports(task.ports))
        assert not ports or max(ports.values()) == 1, f"a port of {node_id} is taken twice: {ports}"


def updates_leave_enough_running(before: View, after: View) -> None:
    """If the plan replaces running tasks by such of another spec, at least slots - parallelism still run after it."""
    for service in after.services.values():
        tasks = list(after.tasks_of(service.id))
        replaced = {task.replaces for task in tasks if task.id not in before.tasks and _changes_spec(before, task)}
        if not any(_runs(before, before.tasks[task_id]) for task_id in replaced):
            continue
        active = [task for task in tasks if is_wanted(task.desired_state) and not is_finished(task)]
        if service.is_global:
            active = [task for task in active if after.nodes[task.node_id].schedulable]
        running = [task for task in active if _runs(after, task)]
        least = len(active) - _parallelism(service, len(active))
        assert len(running) >= least, f"{service.spec.name}: {len(running)} run, {least} should"


def _parallelism(service: Service, everything: int) -> int:
    config = service.spec.update_config
    parallelism = 1 if config is None or config.parallelism is None else config.parallelism
    return parallelism or everything


def _changes_spec(before: View, task: Task) -> bool:
    old = before.tasks.get(task.replaces)
    return old is not None and old.service_version != task.service_version


def _runs(view: View, task: Task) -> bool:
    return is_running(task) and not is_down(view.nodes.get(task.node_id))


def nothing_runs_before_its_time(before: View, after: View, now: float) -> None:
    for task in after.tasks.values():
        if task.id not in before.tasks and task.start_at > now:
            early = task.desired_state is TaskState.RUNNING or is_placed(task)
            assert not early, f"{task.name} is tried before its pause is over"
