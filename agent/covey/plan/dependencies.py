# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configs: who refers to them, what a new value or a removal changes, which a node may hold.  Pure.

An id names one value for ever.  A new value takes the name from the old one, and every service that used the name gets
the new id in its spec, in one transaction: so the roll-out, its pause and its rollback are those of any other update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from covey.model.changes import Change, Create, Delete, Retire, Update
from covey.model.errors import FailedPrecondition, InvalidArgument
from covey.model.objects import Dependency, Service, Task, kind_of
from covey.model.references import Use, uses
from covey.model.spec import ConfigReference, ContainerSpec, FileTarget, SecretReference, ServiceSpec
from covey.model.tasks import is_terminal, is_wanted
from covey.state.view import View

replace = msgspec.structs.replace

#: Values kept of a name besides the newest; more only as long as a service or a task refers to them.
KEPT = 5
PATH = "TaskTemplate.ContainerSpec"


def container_of(spec: ServiceSpec) -> ContainerSpec:
    return spec.task_template.container_spec


def with_container(spec: ServiceSpec, container: ContainerSpec) -> ServiceSpec:
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def values_of(view: View, kind: str, name: str) -> list[Dependency]:
    """All values of that name, newest first."""
    found = (thing for thing in view.dependencies(kind).values() if thing.spec.name == name)
    return sorted(found, key=lambda thing: -thing.number)


def users_of(view: View, things: Iterable[Dependency]) -> list[Service]:
    """The services whose spec refers to any of them, by name."""
    ids = {thing.id for thing in things}
    found = (s for s in view.services.values() if any(use.id in ids for use in uses(container_of(s.spec))))
    return sorted(found, key=lambda service: service.spec.name)


# -- references of a service


def resolved(view: View, spec: ServiceSpec, current: Service | None) -> ServiceSpec:
    """``spec`` with every reference whole: id, name, file and owner; InvalidArgument where there is no such thing.

    An id that has been retired means the newest value, unless ``current`` runs with it, after a rollback.
    """
    container = container_of(spec)
    if not (container.secrets or container.configs):
        return spec
    known = {use.id for use in uses(container_of(current.spec))} if current else set()
    found = [_whole(view, use, known) for use in uses(container)]
    return with_container(
        spec,
        replace(
            container,
            secrets=container.secrets and [one for one in found if isinstance(one, SecretReference)],
            configs=container.configs and [one for one in found if isinstance(one, ConfigReference)],
        ),
    )


def _whole(view: View, use: Use, known: set[str]) -> SecretReference | ConfigReference:
    thing = _referred(view, use)
    if thing.retired and thing.id not in known:
        thing = view.dependency_named(use.kind, thing.spec.name) or thing
    mode = FileTarget.DEFAULT_MODE if use.file.mode is None else use.file.mode
    name = thing.spec.name
    file = FileTarget(name=use.file.name or name, uid=use.file.uid or "0", gid=use.file.gid or "0", mode=mode)
    if use.kind == "secret":
        return SecretReference(file=file, secret_id=thing.id, secret_name=name)
    return ConfigReference(file=file, config_id=thing.id, config_name=name)


def _referred(view: View, use: Use) -> Dependency:
    path, kind = f"{PATH}.{use.path}", use.kind
    if not use.id and not use.name:
        raise InvalidArgument(f"malformed {kind} reference: {kind.title()}ID or {kind.title()}Name is needed", path)
    thing = view.dependencies(kind).get(use.id) if use.id else view.dependency_named(kind, use.name)
    if thing is None:
        raise InvalidArgument(f"{kind} {use.name or use.id} not found; create it first", path)
    if use.name and thing.spec.name != use.name:
        raise InvalidArgument(f"{use.id} is the id of {kind} {thing.spec.name}, not of {use.name}", path)
    return thing


# -- a new value, and the end


def is_same_value(one: Dependency, other: Dependency) -> bool:
    """Containers see the same; the managers hold the values themselves, so they need no digest to compare them."""
    return one.data == other.data and one.spec.templating == other.spec.templating


def changes_to(view: View, current: Dependency, wanted: Dependency) -> tuple[Change, ...]:
    """What makes ``wanted`` of ``current``: other labels, or another value, which has an id of its own."""
    if wanted.id != current.id:
        return new_value(view, current, replace(wanted, version=0))
    return () if wanted.spec == current.spec else (Update(wanted),)


def new_value(view: View, old: Dependency, new: Dependency) -> tuple[Change, ...]:
    """``new`` takes the name of ``old``, and who used the name goes over to it; values nobody needs any more go."""
    kind, name = kind_of(old), old.spec.name
    values = values_of(view, kind, name)
    users = users_of(view, values)
    moved = (replace(one, spec=_moved(one.spec, kind, new), previous_spec=one.spec) for one in users)
    needed = _in_use(view, kind, {service.id for service in users})
    dropped = [thing for thing in values[KEPT:] if thing.id not in needed]
    return (
        Retire(kind, old.id, old.version),
        Create(replace(new, number=old.number + 1)),
        *map(Update, moved),
        *(Delete(kind, thing.id, thing.version) for thing in dropped),
    )


def _moved(spec: ServiceSpec, kind: str, new: Dependency) -> ServiceSpec:
    container = container_of(spec)
    if kind == "secret":
        secrets = [
            replace(r, secret_id=new.id) if r.secret_name == new.spec.name else r for r in container.secrets or ()
        ]
        return with_container(spec, replace(container, secrets=secrets))
    configs = [replace(r, config_id=new.id) if r.config_name == new.spec.name else r for r in container.configs or ()]
    return with_container(spec, replace(container, configs=configs))


def _in_use(view: View, kind: str, moving: Iterable[str] = ()) -> set[str]:
    """Ids that a service would run with, now or after a rollback, or that a task that is not over was made with.

    Of services in ``moving`` the present spec becomes the previous one.
    """
    specs: list[ContainerSpec] = []
    for service in view.services.values():
        specs.append(container_of(service.spec))
        if service.previous_spec is not None and service.id not in moving:
            specs.append(container_of(service.previous_spec))
    specs += (task.spec.container_spec for task in view.tasks.values() if not is_terminal(task.status.state))
    return {use.id for spec in specs for use in uses(spec) if use.kind == kind}


def removal(view: View, thing: Dependency) -> tuple[Change, ...]:
    """The name and all its values gone; FailedPrecondition while a service refers to one of them."""
    kind, name = kind_of(thing), thing.spec.name
    values = values_of(view, kind, name)
    users = users_of(view, values)
    if users:
        names = ", ".join(service.spec.name for service in users)
        noun = "service" if len(users) == 1 else "services"
        raise FailedPrecondition(f"{kind} '{name}' is in use by the following {noun}: {names}")
    return tuple(Delete(kind, one.id, one.version) for one in values)


def unused(view: View, kind: str, wanted: Iterable[Dependency]) -> list[Dependency]:
    """All values of those names of ``wanted`` that nobody refers to, not even for a rollback."""
    needed = _in_use(view, kind)
    values = {thing.spec.name: values_of(view, kind, thing.spec.name) for thing in wanted}
    return [one for things in values.values() if not any(v.id in needed for v in things) for one in things]


# -- what a node may hold


def needed_by(view: View, tasks: Iterable[Task]) -> dict[str, Dependency]:
    """What those of a node's tasks that run or shall run refer to, by id; what is gone is left out."""
    found: dict[str, Dependency] = {}
    for task in tasks:
        if is_wanted(task.desired_state) and not is_terminal(task.status.state):
            found.update((thing.id, thing) for thing in _dependencies(view, task.spec.container_spec))
    return found


def _dependencies(view: View, spec: ContainerSpec) -> Iterator[Any]:
    things = (view.dependencies(use.kind).get(use.id) for use in uses(spec))
    return (thing for thing in things if thing is not None)
