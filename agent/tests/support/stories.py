# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories: text files of commands to a simulated world, each followed by what the leader planned because of it.

A line that begins with ``> `` is a command, an indented one the record, anything else is for the reader.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

from builders import node, spec
from worlds import World

from covey.model.changes import Change, Create, Delete, ObserveNode, ObserveTask, SetUpdateStatus, Update
from covey.model.objects import Task
from covey.model.spec import Availability, RestartCondition
from covey.state.view import View


class ToldWorld(World):
    """A world that writes down what happens."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        super().__init__()
        self.began = self.now

    def commit(self, *changes: Change) -> None:
        before = self.view
        super().commit(*changes)
        for change in changes:
            for text in _told(change, before, self.view):
                self.journal.append(f"  {self.now - self.began:4.0f} s  {text}")


def _told(change: Change, before: View, after: View) -> Iterator[str]:
    match change:
        case Create(Task() as task):
            yield f"{_name(task)} created{_where(after, task)}, to be {task.desired_state}{_when(task)}"
        case Update(Task(id=id_)):
            yield from _changed(before.tasks[id_], after.tasks[id_])
        case Delete("task", id_, _):
            yield f"{_name(before.tasks[id_])} deleted"
        case ObserveTask(id_, status) if id_ in before.tasks:
            yield f"{_name(before.tasks[id_])} seen {status.state}" + (f": {status.err}" if status.err else "")
        case ObserveNode(id_, status, _) if status:
            yield f"node {id_} {status.state}" + (f": {status.message}" if status.message else "")
        case SetUpdateStatus(id_, _, status) if status:
            yield f"{after.services[id_].spec.name} {status.state}: {status.message}"


def _changed(old: Task, new: Task) -> Iterator[str]:
    if new.node_id != old.node_id:
        yield f"{_name(new)} assigned to {new.node_id}"
    if new.desired_state is not old.desired_state:
        yield f"{_name(new)} to be {new.desired_state}"
    if new.status.err and new.status.err != old.status.err:
        yield f"{_name(new)} {new.status.state}: {new.status.err}"
    if new.status.message != old.status.message and new.status.message.startswith("not restarted"):
        yield f"{_name(new)} {new.status.message}"


def _name(task: Task) -> str:
    return f"{task.service_name}.{task.slot or task.node_id}.{task.id}"


def _where(view: View, task: Task) -> str:
    if task.status.err:
        return f" nowhere: {task.status.err}"
    if not task.node_id:
        return f" nowhere yet ({task.spec.container_spec.image})"
    return f" on {task.node_id} ({task.spec.container_spec.image})"


def _when(task: Task) -> str:
    return f", run from {task.start_at - 1000:.0f} s" if task.desired_state.name == "READY" and task.start_at else ""


class Teller:
    """Carries out commands; each method named ``do_X`` is the command X."""

    def __init__(self) -> None:
        self.world = ToldWorld()

    def tell(self, command: str) -> list[str]:
        """What the leader saw and planned while the command was carried out."""
        word, *arguments = shlex.split(command)
        action: Callable[..., None] = getattr(self, f"do_{word}")
        options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        action(*(argument for argument in arguments if "=" not in argument), **options)
        told, self.world.journal = self.world.journal, []
        return told

    def do_nodes(self, *names: str, **labels: str) -> None:
        for name in names:
            self.world.add(node(name, labels=labels))

    def do_declare(self, name: str, replicas: str, **options: Any) -> None:
        """``replicas`` may be ``global``; options are those named below, and ``image``."""
        policy: dict[str, Any] = {}
        if "condition" in options:
            policy["condition"] = RestartCondition(options.pop("condition"))
        if "attempts" in options:
            policy["max_attempts"] = int(options.pop("attempts"))
        if "delay" in options:
            policy["delay"] = int(options.pop("delay")) * 10**9
        parts: dict[str, Any] = {"policy": policy} if policy else {}
        for number in ("memory", "parallelism"):
            if number in options:
                parts[number] = int(options.pop(number))
        if "ports" in options:
            parts["ports"] = [int(port) for port in options.pop("ports").split(",")]
        if "constraint" in options:
            parts["constraints"] = [options.pop("constraint")]
        self.world.declare(spec(name, None if replicas == "global" else int(replicas), **parts, **options))

    def do_remove(self, name: str) -> None:
        self.world.remove(name)

    def do_run(self, seconds: str) -> None:
        self.world.run(int(seconds))

    def do_kill(self, name: str, slot: str) -> None:
        """The process of that slot's container."""
        [task] = [task for task in self.world.running(name) if str(task.slot or task.node_id) == slot]
        self.world.hosts[task.node_id].kill(task.id)

    def do_unplug(self, name: str) -> None:
        self.world.hosts[name].pull_plug()

    def do_boot(self, name: str) -> None:
        self.world.hosts[name].powered = True

    def do_cut(self, name: str) -> None:
        self.world.hosts[name].linked = False

    def do_mend(self, name: str) -> None:
        self.world.hosts[name].linked = True

    def do_drain(self, name: str) -> None:
        self.world.set_node(name, availability=Availability.DRAIN)

    def do_activate(self, name: str) -> None:
        self.world.set_node(name, availability=Availability.ACTIVE)

    def do_label(self, name: str, **labels: str) -> None:
        self.world.set_node(name, labels=labels)

    def do_lead(self) -> None:
        """Another manager takes over."""
        self.world.change_leader()

    def do_forget(self, name: str) -> None:
        """The node is removed from the cluster."""
        self.world.remove_node(name)


def retold(text: str) -> str:
    """The story with its record as it would be written today."""
    teller = Teller()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        lines.append(line)
        if line.startswith("> "):
            lines += teller.tell(line[2:])
    return "\n".join(lines) + "\n"
