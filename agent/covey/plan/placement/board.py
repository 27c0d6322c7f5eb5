# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes as the scheduler sees them while it places tasks: what is free, and how much runs there.

Built from the view anew for each plan; the only mutable thing in this room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from covey.model.objects import Node, Task
from covey.model.spec import PortConfig, Reservation
from covey.model.tasks import is_wanted
from covey.plan.slots import is_over, is_placed
from covey.state.view import View


class Seat:
    """One node.  ``tasks`` counts the wanted ones, ``of_service`` those by service."""

    __slots__ = ("memory_bytes", "nano_cpus", "node", "of_service", "ports", "tasks")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.nano_cpus = node.description.nano_cpus
        self.memory_bytes = node.description.memory_bytes
        self.ports: Counter[tuple[str, int]] = Counter()
        self.tasks = 0
        self.of_service: Counter[str] = Counter()

    def add(self, task: Task) -> None:
        """``task`` runs here, or will, or has not stopped yet."""
        if task.spec.resources is not None:
            nano_cpus, memory_bytes = reservation(task)
            self.nano_cpus -= nano_cpus
            self.memory_bytes -= memory_bytes
        if task.ports:
            self.ports.update(host_ports(task.ports))
        if is_wanted(task.desired_state):
            self.tasks += 1
            self.of_service[task.service_id] += 1


def seats(view: View) -> dict[str, Seat]:
    """Every node of the cluster, with all it holds: what was told to stop holds its share until it has stopped."""
    board = {node_id: Seat(node) for node_id, node in view.nodes.items()}
    for node_id, seat in board.items():
        for task in view.tasks_on(node_id):
            if is_placed(task) and not is_over(task):
                seat.add(task)
    return board


def reservation(task: Task) -> tuple[int, int]:
    """Billionths of a CPU and bytes of memory that the task keeps others from."""
    reserved = (task.spec.resources.reservations if task.spec.resources else None) or Reservation()
    return reserved.nano_cpus or 0, reserved.memory_bytes or 0


def host_ports(ports: Iterable[PortConfig]) -> list[tuple[str, int]]:
    """Protocol and number of each port taken of the host; an unset number is the engine's choice and never collides."""
    return [(each.protocol or "tcp", each.published_port) for each in ports if each.published_port]
