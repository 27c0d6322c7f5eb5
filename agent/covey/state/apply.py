# SPDX-License-Identifier: GPL-3.0-or-later
"""``apply(view, batch, index)``: the whole replicated state machine.

Total and deterministic: no clock, no dice, no locale, and it never raises.  A batch that does not hold changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from covey.model.changes import (
    Batch,
    Change,
    Create,
    Delete,
    ObserveNode,
    ObserveTask,
    Retire,
    SetUpdateStatus,
    Update,
)
from covey.model.errors import Conflict, CoveyError, NotFound, OutOfSequence
from covey.model.objects import KINDS, Dependency, Node, Object, Service, Task, TaskStatus, kind_of
from covey.model.references import uses
from covey.model.spec import ContainerSpec
from covey.model.tasks import TaskState, is_terminal
from covey.state.view import View

#: How many request ids are remembered.  A retry comes within seconds; observations, of which there are many, have none.
REMEMBERED_REQUESTS = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: ``error`` is None if it holds.  A repeat answers with the ``index`` of the first time."""

    index: int
    error: CoveyError | None = None


def apply(view: View, batch: Batch, index: int) -> tuple[View, Outcome]:
    """The view after ``batch`` at log position ``index``, and what to tell its proposer."""
    view = replace(view, format=max(view.format, batch.format))  # even if it is refused: it is in the log
    known = view.requests.get(batch.request_id)
    if known is not None:
        first, error = known
        return replace(view, index=index), Outcome(first, Conflict(error) if error else None)
    if batch.fence and batch.fence < view.fence:
        error = f"decided by the leader of term {batch.fence}, but term {view.fence} has written since"
        return replace(view, index=index), Outcome(index, Conflict(error))
    draft = Draft(view, index, batch.at)
    try:
        for change in batch.changes:
            draft.change(change)
    except CoveyError as refusal:
        after = replace(view, index=index, requests=_remembered(view, batch, index, str(refusal)))
        return after, Outcome(index, refusal)
    requests, fence = _remembered(view, batch, index, ""), max(view.fence, batch.fence)
    return draft.view(fence=fence, requests=requests), Outcome(index)


def _remembered(view: View, batch: Batch, index: int, error: str) -> Mapping[str, tuple[int, str]]:
    if not batch.request_id:
        return view.requests
    requests = dict(view.requests)
    requests[batch.request_id] = (index, error)
    if len(requests) > REMEMBERED_REQUESTS:
        del requests[next(iter(requests))]
    return requests


class Draft:
    """A view being changed: each table and index is copied when first written."""

    def __init__(self, view: View, index: int, at: float) -> None:
        self._view, self._index, self._at = view, index, at
        self._fields: dict[str, Any] = {}
        self._owned: set[tuple[str, str]] = set()

    def view(self, **others: Any) -> View:
        """The view after the changes; ``others`` are fields that no change writes."""
        return replace(self._view, index=self._index, **self._fields, **others)

    def change(self, change: Change) -> None:
        match change:
            case Create(thing):
                self._create(thing)
            case Update(thing):
                self._update(thing)
            case Delete(kind, id_, version):
                self._delete(self._current(kind, id_, version))
            case Retire(kind, id_, version):
                self._retire(self._current(kind, id_, version))
            case ObserveTask(id_, status):
                task = self._table("tasks").get(id_)
                if task is not None and status.state >= task.status.state:
                    self.put(_observed(task, status, self._at))
            case ObserveNode(id_, status, description):
                node = self._table("nodes").get(id_)
                if node is not None:
                    self.put(_with(node, status=status or node.status, description=description or node.description))
            case _:
                self._set_update_status(change)

    def _set_update_status(self, change: SetUpdateStatus) -> None:
        service = self._table("services").get(change.service_id)
        if service is not None and service.version == change.version:
            self.put(_with(service, update_status=change.status))

    def _create(self, thing: Object) -> None:
        kind = kind_of(thing)
        if thing.id in self._table(kind + "s"):
            raise Conflict(f"{kind} {thing.id} already exists")
        named = _name_of(thing)
        if named is not None and named[1] in self._table(named[0]):
            raise Conflict(f"name conflicts with an existing object: {kind} {named[1]} already exists")
        self._check_uses(thing)
        self.put(_with(thing, version=self._index, created_at=self._at, updated_at=self._at))

    def _update(self, thing: Object) -> None:
        kind = kind_of(thing)
        current = self._current(kind, thing.id, thing.version)
        before, after = _name_of(current), _name_of(thing)
        if before != after:
            raise Conflict(f"the name of a {kind} cannot be changed ({_shown(before)} to {_shown(after)})")
        if isinstance(thing, Dependency) and isinstance(current, Dependency) and thing.data != current.data:
            raise Conflict(f"{kind} {thing.id} has one value for ever; a new value is a new object")
        self._check_uses(thing)
        thing = _with_observed(thing, current)
        self.put(_with(thing, version=self._index, created_at=current.created_at, updated_at=self._at))

    def _delete(self, thing: Object) -> None:
        if isinstance(thing, Dependency):
            kind = kind_of(thing)
            for service in self._table("services").values():
                if any((use.kind, use.id) == (kind, thing.id) for use in uses(_container(service))):
                    raise Conflict(f"{kind} {thing.spec.name} is in use by service {service.spec.name}")
        self._drop(thing)

    def _retire(self, thing: Object) -> None:
        named = _name_of(thing)
        if not isinstance(thing, Dependency) or named is None:
            raise Conflict(f"{kind_of(thing)} {thing.id} has no name to lose")
        del self._own(named[0])[named[1]]
        self.put(_with(thing, retired=True, version=self._index, updated_at=self._at))

    def _check_uses(self, thing: Object) -> None:
        """No service refers to what is not there."""
        if not isinstance(thing, Service):
            return
        for use in uses(_container(thing)):
            if use.id not in self._table(use.kind + "s"):
                raise Conflict(f"service {thing.spec.name} refers to {use.kind} {use.name} ({use.id}), which is gone")

    def _current(self, kind: str, id_: str, version: int) -> Object:
        current: Object | None = self._table(kind + "s").get(id_) if kind in KINDS else None
        if current is None:
            raise NotFound(kind, id_)
        if current.version != version:
            raise OutOfSequence(kind, id_, version, current.version)
        return current

    def _table(self, name: str) -> dict[str, Any]:
        """The table as it stands, to read."""
        table: dict[str, Any] = self._fields.get(name, getattr(self._view, name))
        return table

    def _own(self, name: str) -> dict[str, Any]:
        """The table, copied if it is still the view's, to write."""
        if name not in self._fields:
            self._fields[name] = dict(getattr(self._view, name))
        table: dict[str, Any] = self._fields[name]
        return table

    def _own_group(self, index: str, key: str) -> dict[str, Any]:
        groups = self._own(index)
        if (index, key) not in self._owned:
            groups[key] = dict(groups.get(key, {}))
            self._owned.add((index, key))
        group: dict[str, Any] = groups[key]
        return group

    def put(self, thing: Object) -> None:
        """Add or replace ``thing`` as it is, indexes included."""
        table = self._own(kind_of(thing) + "s")
        before = table.get(thing.id)
        table[thing.id] = thing
        named = _name_of(thing)
        if named is not None:
            self._own(named[0])[named[1]] = thing.id
        if isinstance(thing, Task):
            if before is not None and before.node_id and before.node_id != thing.node_id:
                self._ungroup("by_node", before.node_id, thing.id)
            self._own_group("by_service", thing.service_id)[thing.id] = thing
            if thing.node_id:
                self._own_group("by_node", thing.node_id)[thing.id] = thing

    def _drop(self, thing: Object) -> None:
        del self._own(kind_of(thing) + "s")[thing.id]
        named = _name_of(thing)
        if named is not None:
            del self._own(named[0])[named[1]]
        if isinstance(thing, Task):
            self._ungroup("by_service", thing.service_id, thing.id)
            if thing.node_id:
                self._ungroup("by_node", thing.node_id, thing.id)

    def _ungroup(self, index: str, key: str, id_: str) -> None:
        group = self._own_group(index, key)
        group.pop(id_, None)
        if not group:
            del self._own(index)[key]
            self._owned.discard((index, key))


def _name_of(thing: Object) -> tuple[str, str] | None:
    """The index of names that holds the thing, and its name; None where names are not unique or it has lost it."""
    if isinstance(thing, Service) or (isinstance(thing, Dependency) and not thing.retired):
        return kind_of(thing) + "_names", thing.spec.name
    return None


def _shown(named: tuple[str, str] | None) -> str:
    return named[1] if named else "none"


def _container(service: Service) -> ContainerSpec:
    return service.spec.task_template.container_spec


def _with_observed(thing: Object, current: Object) -> Object:
    """``thing`` with what was observed of ``current`` where its writer may not know better."""
    if isinstance(thing, Node) and isinstance(current, Node):
        return msgspec.structs.replace(thing, status=current.status, description=current.description)
    if isinstance(thing, Service) and isinstance(current, Service):
        update_status = current.update_status if thing.spec == current.spec else None
        return msgspec.structs.replace(thing, update_status=update_status)
    if isinstance(thing, Task) and isinstance(current, Task):
        status = max(thing.status, current.status, key=lambda seen: seen.state)
        running_at, ended_at = current.running_at or thing.running_at, current.ended_at or thing.ended_at
        return msgspec.structs.replace(thing, status=status, running_at=running_at, ended_at=ended_at)
    return thing


def _observed(task: Task, status: TaskStatus, at: float) -> Task:
    """``task`` with a worker's word on it; its two milestones are kept by the managers' clock."""
    running_at = task.running_at or (at if status.state is TaskState.RUNNING else 0.0)
    ended_at = task.ended_at or (at if is_terminal(status.state) else 0.0)
    return msgspec.structs.replace(task, status=status, running_at=running_at, ended_at=ended_at)


def _with(thing: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(thing, **fields)
