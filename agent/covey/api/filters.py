# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``filters`` of list calls: a JSON map of maps, or of lists as old clients send it.  Pure.

Several values of one filter are alternatives, except labels, which must all be there; several filters must all hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from covey.model.codec import UNREADABLE
from covey.model.errors import InvalidArgument
from covey.model.objects import Dependency, Node, Service, Task
from covey.model.spec import Role
from covey.model.tasks import TaskState, parse_state
from covey.plan.drift import Drift
from covey.state.view import View

Filters = Mapping[str, tuple[str, ...]]
SERVICE_FILTERS = ("id", "label", "mode", "name")
NODE_FILTERS = ("id", "label", "membership", "name", "node.label", "role")
TASK_FILTERS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "service")
DEPENDENCY_FILTERS = ("id", "label", "name", "names")
MODES = ("replicated", "global", "replicated-job", "global-job")
TRUE, FALSE = frozenset({"1", "true"}), frozenset({"0", "false"})


def parse(text: str, known: Iterable[str]) -> Filters:
    """The filters of a query; InvalidArgument for one that this list does not know."""
    if not text:
        return {}
    try:
        raw = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str]])
    except UNREADABLE as error:
        raise InvalidArgument(
            f"invalid filters, expected a map of maps such as {{'name':{{'web':true}}}}: {error}"
        ) from error
    for name in raw:
        if name not in known:
            raise InvalidArgument(f"Invalid filter '{name}'")
    return {name: _values(content) for name, content in raw.items()}


def _values(content: dict[str, bool] | list[str]) -> tuple[str, ...]:
    if isinstance(content, dict):
        return tuple(value for value, wanted in content.items() if wanted)
    return tuple(content)


def services(view: View, filters: Filters) -> list[Service]:
    """The services that pass, by name."""
    tests = _tests(
        filters,
        {
            "id": lambda service, wanted: service.id.startswith(wanted),
            "name": lambda service, wanted: service.spec.name.startswith(wanted),
            "mode": lambda service, wanted: _mode(service) == _one_of("mode", wanted, MODES),
        },
        {"label": lambda service: service.spec.labels},
    )
    return sorted(_passing(view.services.values(), tests), key=lambda service: service.spec.name)


def nodes(view: View, filters: Filters) -> list[Node]:
    """The nodes that pass, by host name."""
    tests = _tests(
        filters,
        {
            "id": lambda node, wanted: node.id.startswith(wanted),
            "name": lambda node, wanted: (node.spec.name or node.description.hostname).startswith(wanted),
            "role": lambda node, wanted: node.spec.role == _one_of("role", wanted, tuple(Role)),
            "membership": lambda _, wanted: _one_of("membership", wanted, ("accepted", "pending")) == "accepted",
        },
        {
            "label": lambda node: node.description.engine.labels,
            "node.label": lambda node: node.spec.labels,
        },
    )
    return sorted(_passing(view.nodes.values(), tests), key=lambda node: (node.description.hostname, node.id))


def dependencies(view: View, kind: str, filters: Filters) -> list[Dependency]:
    """The secrets, or configs, that pass, by name; ``name`` is a beginning, ``names`` a whole one."""
    tests = _tests(
        filters,
        {
            "id": lambda thing, wanted: thing.id.startswith(wanted),
            "name": lambda thing, wanted: thing.spec.name.startswith(wanted),
            "names": lambda thing, wanted: thing.spec.name == wanted,
        },
        {"label": lambda thing: thing.spec.labels},
    )
    current = (thing for thing in view.dependencies(kind).values() if not thing.retired)
    return sorted(_passing(current, tests), key=lambda thing: thing.spec.name)


def tasks(view: View, filters: Filters) -> list[Task]:
    """The tasks that pass, by service and slot, newest first; NotFound for a service or node that is not there."""
    of_services = {view.find("service", reference).id for reference in filters.get("service", ())}
    of_nodes = {view.find("node", reference).id for reference in filters.get("node", ())}
    states = {_state(name) for name in filters.get("desired-state", ())}
    tests = _tests(
        filters,
        {
            "id": lambda task, wanted: task.id.startswith(wanted),
            "name": lambda task, wanted: task.name.startswith(wanted),
            "service": lambda task, _: task.service_id in of_services,
            "node": lambda task, _: task.node_id in of_nodes,
            "desired-state": lambda task, _: task.desired_state in states,
        },
        {"label": lambda task: task.service_labels},
    )
    if any(_flag("_up-to-date", value) for value in filters.get("_up-to-date", ())):
        tests.append(_UpToDate(view))
    return sorted(_passing(_candidates(view, of_services), tests), key=_task_order)


def _candidates(view: View, of_services: set[str]) -> Iterable[Task]:
    if not of_services:
        return view.tasks.values()
    return (task for service_id in of_services for task in view.tasks_of(service_id))


def _task_order(task: Task) -> tuple[str, int, str, float, str]:
    return task.service_name, task.slot, task.node_id if not task.slot else "", -task.created_at, task.id


class _UpToDate:
    """The task is of its service's spec of today."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._drifts: dict[str, Drift] = {}

    def __call__(self, task: Task) -> bool:
        service = self._view.services.get(task.service_id)
        if service is None:
            return False
        if service.id not in self._drifts:
            self._drifts[service.id] = Drift(self._view, service)
        return not self._drifts[service.id](task)


def _tests(
    filters: Filters,
    alternatives: Mapping[str, Callable[[Any, str], bool]],
    labels: Mapping[str, Callable[[Any], Mapping[str, str] | None]],
) -> list[Callable[[Any], bool]]:
    """One test for each filter that was sent."""
    tests: list[Callable[[Any], bool]] = []
    for name, values in filters.items():
        if name in alternatives and values:
            tests.append(_any_of(alternatives[name], values))
        if name in labels and values:
            tests.append(_all_labels(labels[name], values))
    return tests


def _any_of(test: Callable[[Any, str], bool], values: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda thing: any(test(thing, value) for value in values)


def _all_labels(get: Callable[[Any], Mapping[str, str] | None], values: tuple[str, ...]) -> Callable[[Any], bool]:
    def test(thing: Any) -> bool:
        labels = get(thing) or {}
        return all(_has_label(labels, value) for value in values)

    return test


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _passing(things: Iterable[Any], tests: list[Callable[[Any], bool]]) -> Iterable[Any]:
    return (thing for thing in things if all(test(thing) for test in tests))


def _mode(service: Service) -> str:
    return "global" if service.is_global else "replicated"


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value.lower() not in choices:
        raise InvalidArgument(f"Invalid {name} filter: '{value}'; it is one of {', '.join(choices)}")
    return value.lower()


def _state(name: str) -> TaskState:
    try:
        return parse_state(name)
    except KeyError:
        names = ", ".join(str(state) for state in TaskState)
        raise InvalidArgument(f"Invalid desired-state filter: '{name}'; it is one of {names}") from None


def _flag(name: str, value: str) -> bool:
    if value.lower() not in TRUE | FALSE:
        raise InvalidArgument(f"Invalid filter '{name}={value}'; it is true or false")
    return value.lower() in TRUE
