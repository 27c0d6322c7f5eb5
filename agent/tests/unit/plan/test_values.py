# SPDX-License-Identifier: GPL-3.0-or-later
"""Any order of new values, uses, rollbacks, removals and clearing up: what is referred to stays, and little else."""

from __future__ import annotations

from itertools import count

import pytest
from builders import after, replace, spec, view
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.model.changes import Change, Create, Update
from covey.model.errors import FailedPrecondition
from covey.model.objects import Service, StoredSecret
from covey.model.references import uses
from covey.model.secret import Secret
from covey.model.spec import DependencySpec, SecretReference, ServiceSpec
from covey.plan.dependencies import (
    KEPT,
    changes_to,
    container_of,
    is_same_value,
    removal,
    resolved,
    unused,
    users_of,
    values_of,
    with_container,
)

NAMES = ("a", "b")
SERVICES = ("web", "api")


class Life:
    """A state that is moved by what users may do; each move takes two small numbers."""

    def __init__(self) -> None:
        self.view, self.numbers = view(index=0), count()
        self.moves = (self.value, self.value, self.value, self.use, self.use, self.rollback, self.remove, self.prune)

    def _do(self, *changes: Change) -> None:
        if changes:
            self.view = after(self.view, *changes)

    def value(self, name: int, value: int) -> None:
        current = self.view.dependency_named("secret", NAMES[name])
        new = StoredSecret(id=f"k{next(self.numbers)}", spec=DependencySpec(name=NAMES[name]), data=_data(value))
        if current is None:
            self._do(Create(new))
        else:
            self._do(*changes_to(self.view, current, current if is_same_value(current, new) else new))
        newest = self.view.dependency_named("secret", NAMES[name])
        assert newest is not None
        assert newest.data == _data(value)
        for user in users_of(self.view, values_of(self.view, "secret", NAMES[name])):
            assert current is None or newest.id == current.id or newest.id in _ids(user.spec)

    def use(self, service: int, names: int) -> None:
        wanted = [name for number, name in enumerate(NAMES) if names >> number & 1]
        there = [name for name in wanted if self.view.dependency_named("secret", name)]
        plain = spec(SERVICES[service])
        container = replace(container_of(plain), secrets=[SecretReference(secret_name=name) for name in there])
        current = self.view.service_named(SERVICES[service])
        whole = resolved(self.view, with_container(plain, container), current)
        if current is None:
            self._do(Create(Service(id=SERVICES[service], spec=whole)))
        else:
            self._do(Update(replace(current, spec=whole, previous_spec=current.spec)))

    def rollback(self, service: int, _: int) -> None:
        current = self.view.service_named(SERVICES[service])
        previous = current.previous_spec if current else None
        if current and previous and _ids(previous) <= self.view.secrets.keys():
            self._do(Update(replace(current, spec=previous, previous_spec=current.spec)))

    def remove(self, name: int, _: int) -> None:
        current = self.view.dependency_named("secret", NAMES[name])
        if current is None:
            return
        used = users_of(self.view, values_of(self.view, "secret", NAMES[name]))
        if used:
            with pytest.raises(FailedPrecondition, match=", ".join(user.spec.name for user in used)):
                removal(self.view, current)
            return
        self._do(*removal(self.view, current))
        assert values_of(self.view, "secret", NAMES[name]) == []

    def prune(self, _: int, __: int) -> None:
        current = [thing for thing in self.view.secrets.values() if not thing.retired]
        gone = unused(self.view, "secret", current)
        self._do(*(change for one in gone if not one.retired for change in removal(self.view, one)))
        for service in self.view.services.values():
            assert not (_ids(service.spec) | _ids(service.previous_spec)) & {one.id for one in gone}

    def check(self) -> None:
        for service in self.view.services.values():
            assert _ids(service.spec) <= self.view.secrets.keys(), "a service refers to what is gone"
        for name in NAMES:
            values = values_of(self.view, "secret", name)
            assert [one.retired for one in values] == [False, *[True] * (len(values) - 1)][: len(values)]
            # What the services let go of since is dropped with the next new value.
            assert len(values) <= KEPT + 1 + 2 * len(SERVICES)


def _data(value: int) -> Secret:
    return Secret(b"value" + bytes([value]))


def _ids(spec: ServiceSpec | None) -> set[str]:
    return {use.id for use in uses(container_of(spec))} if spec else set()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1), st.integers(0, 3)), min_size=5, max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_order(story: list[tuple[int, int, int]]) -> None:
    life = Life()
    for move, first, second in story:
        life.moves[move](first, second)
        life.check()
