# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets and configs a node may hold."""

from __future__ import annotations

from builders import S, node, replace, service, task, view

from covey.model.objects import Service, StoredConfig, StoredSecret, Task
from covey.model.secret import Secret
from covey.model.spec import ConfigReference, DependencySpec, SecretReference
from covey.plan.assign import assigned
from covey.plan.dependencies import needed_by

KEY = StoredSecret(id="k", spec=DependencySpec(name="key"), data=Secret(b"x"))
CONF = StoredConfig(id="c", spec=DependencySpec(name="conf"), data=Secret(b"x"))


def user() -> Service:
    plain = service()
    template = plain.spec.task_template
    secrets, configs = (
        [SecretReference(secret_id="k")],
        [ConfigReference(config_id="c"), ConfigReference(config_id="?")],
    )
    container = replace(template.container_spec, secrets=secrets, configs=configs)
    return replace(plain, spec=replace(plain.spec, task_template=replace(template, container_spec=container)))


def held(*tasks: Task) -> set[str]:
    """The ids that node ``n1`` may hold."""
    state = view(KEY, CONF, node("n1"), node("n2"), user(), tasks)
    return set(needed_by(state, assigned(state, "n1").values()))


def test_a_node_holds_what_its_own_tasks_refer_to():
    assert held(task(user(), 1, on="n1")) == {"k", "c"}
    assert held(task(user(), 1, on="n2"), task(service("other"), 2, on="n1")) == set()


def test_from_the_assignment_until_the_task_is_told_to_go_or_is_over():
    assert held(task(user(), 1, S.ASSIGNED, on="n1", desired_state=S.READY)) == {"k", "c"}
    assert held(task(user(), 1, S.PENDING, on="n1")) == set()
    assert held(task(user(), 1, S.RUNNING, on="n1", desired_state=S.SHUTDOWN)) == set()
    assert held(task(user(), 1, S.FAILED, on="n1")) == set()
    assert held(task(user(), 1, S.FAILED, on="n1"), task(user(), 2, on="n1")) == {"k", "c"}
