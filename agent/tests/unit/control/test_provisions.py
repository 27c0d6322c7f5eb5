# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configs in a worker's session: to whom they belong, before the tasks, once, and withdrawn in time."""

from __future__ import annotations

import builders
import pytest
from builders import S, replace

from covey.control.session import PROVISION_BYTES, Session
from covey.model.objects import Dependency, Service, StoredConfig, StoredSecret, Task
from covey.model.secret import Secret
from covey.model.session import Assignments, FromDispatcher, Provision, Provisions
from covey.model.spec import ConfigReference, DependencySpec, DriverConfig, SecretReference
from covey.state.view import View


def secret(id_: str = "k1", data: bytes = b"x") -> StoredSecret:
    return StoredSecret(id=id_, spec=DependencySpec(name=f"name-{id_}"), data=Secret(data))


def user(*ids: str, config: str = "") -> Service:
    """A service that refers to those secrets."""
    plain = builders.service()
    template = plain.spec.task_template
    secrets = [SecretReference(secret_id=id_) for id_ in ids]
    configs = [ConfigReference(config_id=config)] if config else None
    container = replace(template.container_spec, secrets=secrets, configs=configs)
    return replace(plain, spec=replace(plain.spec, task_template=replace(template, container_spec=container)))


def on(node: str, number: int, *ids: str, state: S = S.RUNNING, **parts: str) -> Task:
    return replace(builders.task(user(*ids, **parts), number, state, on=node), id=f"{node}-{number}")


def world(*things: Dependency | Task) -> View:
    return builders.view(builders.node("n1"), builders.node("n2"), *things)


class Told:
    """What one node was told, view by view."""

    def __init__(self, node: str = "n1") -> None:
        self._session = Session("s", node, None, world())

    def hears(self, view: View) -> list[FromDispatcher]:
        return list(self._session.news(view))


def ids(messages: list[FromDispatcher]) -> list[str]:
    return [item.id for message in messages if isinstance(message, Provisions) for item in message.items]


def may_hold(messages: list[FromDispatcher]) -> tuple[str, ...]:
    last = messages[-1]
    assert isinstance(last, Assignments)
    return last.provisions


def test_values_come_before_the_tasks_that_refer_to_them():
    template = DependencySpec(name="conf", templating=DriverConfig(name="golang"))
    conf = StoredConfig(id="c1", spec=template, data=Secret(b"y"))
    told = Told().hears(world(secret(), conf, on("n1", 1, "k1", config="c1")))
    provisions, assignments = told
    assert isinstance(provisions, Provisions)
    assert provisions.items == (
        Provision(id="k1", kind="secret", name="name-k1", data=Secret(b"x")),
        Provision(id="c1", kind="config", name="conf", data=Secret(b"y"), template="golang"),
    )
    assert isinstance(assignments, Assignments)
    assert (assignments.sequence, assignments.complete, assignments.provisions) == (1, True, ("c1", "k1"))


def test_a_node_without_such_a_task_hears_nothing_of_it():
    told = Told("n2").hears(world(secret(), on("n1", 1, "k1")))
    assert (ids(told), may_hold(told)) == ([], ())


def test_each_value_is_sent_once():
    told = Told()
    told.hears(world(secret(), secret("k2"), on("n1", 1, "k1")))
    second = told.hears(world(secret(), secret("k2"), on("n1", 1, "k1"), on("n1", 2, "k1", "k2")))
    assert (ids(second), may_hold(second)) == (["k2"], ("k1", "k2"))


@pytest.mark.parametrize("last", [[], [on("n1", 1, "k1", state=S.FAILED)], [on("n1", 1, "k1", state=S.COMPLETE)]])
def test_it_is_withdrawn_when_the_last_such_task_is_gone_and_sent_again_for_another(last: list[Task]):
    told = Told()
    told.hears(world(secret(), on("n1", 1, "k1"), on("n1", 2, "k1")))
    assert may_hold(told.hears(world(secret(), on("n1", 1, "k1")))) == ("k1",)
    gone = told.hears(world(secret(), *last))
    assert (ids(gone), may_hold(gone)) == ([], ())
    again = told.hears(world(secret(), *last, on("n1", 3, "k1")))
    assert (ids(again), may_hold(again)) == (["k1"], ("k1",))


def test_a_value_that_appears_or_goes_is_told():
    told = Told()
    assert may_hold(told.hears(world(on("n1", 1, "k1")))) == ()
    assert ids(told.hears(world(secret(), on("n1", 1, "k1")))) == ["k1"]
    assert may_hold(told.hears(world(on("n1", 1, "k1")))) == ()


def test_nothing_is_said_of_others_values():
    told = Told()
    told.hears(world(secret(), on("n1", 1, "k1")))
    assert told.hears(world(secret(), secret("k2"), on("n1", 1, "k1"), on("n2", 1, "k2"))) == []


def test_many_values_are_cut_into_messages_of_a_moderate_size():
    size = 500 * 1024 - 1
    many = [secret(f"k{number}", bytes([number]) * size) for number in range(30)]
    told = Told().hears(world(*many, on("n1", 1, *(one.id for one in many))))
    sizes = [
        sum(len(item.data.reveal()) for item in message.items) for message in told if isinstance(message, Provisions)
    ]
    assert len(sizes) == 15
    assert all(one <= PROVISION_BYTES for one in sizes)
    assert sorted(ids(told)) == sorted(one.id for one in many)
