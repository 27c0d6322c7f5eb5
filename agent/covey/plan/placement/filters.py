# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a task off a node.  Each filter checks one thing and can explain itself to a person.

A filter is made for one task; all tasks with the same spec and ports may share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from covey.model.objects import NodeState, Task
from covey.model.spec import Availability
from covey.model.units import NANO_CPUS, human_bytes
from covey.plan.placement.board import Seat, host_ports, reservation
from covey.plan.placement.constraint import broken, runs_on


class Filter(Protocol):
    """One reason to refuse."""

    def check(self, seat: Seat) -> bool:
        """The task may run there."""

    def explain(self, refused: Sequence[Seat]) -> str:
        """Why those nodes (at least one) were refused, beginning with what is wrong and on how many."""


class Ready:
    """The node answers, and the user lets it have new tasks."""

    def check(self, seat: Seat) -> bool:
        return seat.node.schedulable

    def explain(self, refused: Sequence[Seat]) -> str:
        reasons = Counter(map(_unready, refused))
        detail = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
        return f"{_nodes(refused)} not available for new tasks: {detail}"


def _unready(seat: Seat) -> str:
    if seat.node.status.state is not NodeState.READY:
        return str(seat.node.status.state)
    return {Availability.PAUSE: "paused", Availability.DRAIN: "drained"}[seat.node.spec.availability]


class Resources:
    """What the task reserves is not reserved by others."""

    def __init__(self, task: Task) -> None:
        self._needs = reservation(task)

    def check(self, seat: Seat) -> bool:
        cpus, memory = self._needs
        return seat.nano_cpus >= cpus and seat.memory_bytes >= memory

    def explain(self, refused: Sequence[Seat]) -> str:
        cpus, memory = self._needs
        lacks = []
        if any(seat.memory_bytes < memory for seat in refused):
            most = max(max(seat.memory_bytes for seat in refused), 0)
            lacks.append(f"needs {human_bytes(memory)} memory, at most {human_bytes(most)} free")
        if any(seat.nano_cpus < cpus for seat in refused):
            most = max(max(seat.nano_cpus for seat in refused), 0)
            lacks.append(f"needs {cpus / NANO_CPUS:g} CPUs, at most {most / NANO_CPUS:g} free")
        return f"insufficient resources on {_nodes(refused)}: {'; '.join(lacks)}"


class Constraints:
    """The user's conditions on nodes."""

    def __init__(self, task: Task) -> None:
        self._placement = task.spec.placement

    def check(self, seat: Seat) -> bool:
        return not broken(self._placement, seat.node)

    def explain(self, refused: Sequence[Seat]) -> str:
        texts = sorted({broken(self._placement, seat.node) for seat in refused})
        return f"scheduling constraints not satisfied on {_nodes(refused)}: {', '.join(texts)}"


class Platform:
    """The image is built for the node's machine."""

    def __init__(self, task: Task) -> None:
        self._placement = task.spec.placement

    def check(self, seat: Seat) -> bool:
        return runs_on(self._placement, seat.node)

    def explain(self, refused: Sequence[Seat]) -> str:
        platforms = (self._placement.platforms if self._placement else None) or ()
        names = ", ".join(f"{each.os or 'any'}/{each.architecture or 'any'}" for each in platforms)
        return f"unsupported platform on {_nodes(refused)}: needs {names}"


class HostPorts:
    """The ports that the task takes of its host are free there."""

    def __init__(self, task: Task) -> None:
        self._ports = host_ports(task.ports)

    def check(self, seat: Seat) -> bool:
        return not any(seat.ports[port] for port in self._ports)

    def explain(self, refused: Sequence[Seat]) -> str:
        taken = sorted({port for port in self._ports for seat in refused if seat.ports[port]})
        names = ", ".join(f"{number}/{protocol}" for protocol, number in taken)
        return f"host-mode port already in use on {_nodes(refused)}: {names}"


def filters_for(task: Task) -> list[Filter]:
    """All filters in the order of which refusal is told first."""
    return [Ready(), Resources(task), Constraints(task), Platform(task), HostPorts(task)]


def explain(filters: Iterable[Filter], seats: Sequence[Seat]) -> str:
    """Why none of those nodes will do: each is counted under the first filter that refuses it."""
    if not seats:
        return "no suitable node (the cluster has no nodes)"
    parts = []
    left = list(seats)
    for each in filters:
        refused = [seat for seat in left if not each.check(seat)]
        left = [seat for seat in left if each.check(seat)]
        if refused:
            parts.append((-len(refused), each.explain(refused)))
    return f"no suitable node ({'; '.join(text for _, text in sorted(parts))})"


def _nodes(seats: Sequence[Seat]) -> str:
    return "1 node" if len(seats) == 1 else f"{len(seats)} nodes"
