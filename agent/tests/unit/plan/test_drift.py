# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tasks are not what their service's spec says any more."""

from __future__ import annotations

import pytest
from builders import MIB, S, node, replace, service, task, template, view

from covey.model.spec import ContainerSpec, HealthConfig, Limit, Resources, RestartPolicy, TaskSpec
from covey.plan.drift import Drift

OLD = service("web", 1, version=1)


def drifts(new, old_task, *nodes):
    return Drift(view(new, *nodes), new)(old_task)


def changed(**parts):
    return service("web", 1, version=2, **parts)


@pytest.mark.parametrize(
    ("parts", "drifted"),
    [({}, False), ({"labels": {"a": "b"}}, False), ({"parallelism": 3}, False), ({"image": "busybox:2"}, True),
     ({"ports": [80]}, True), ({"force_update": 1}, True), ({"force_update": 0}, False), ({"memory": 10}, True),
     ({"policy": {"delay": 0}}, True), ({"policy": {}}, False), ({"grace": 0}, True)],
)  # fmt: skip
def test_what_counts(parts, drifted):
    assert drifts(changed(**parts), task(OLD, 1, on="n1")) is drifted


def test_a_task_of_the_spec_itself_never_drifts():
    assert not drifts(OLD, replace(task(OLD, 1), spec=template("other")))


def test_a_number_of_replicas_is_no_drift():
    assert not drifts(service("web", 9, version=2), task(OLD, 1))


@pytest.mark.parametrize(
    "spec",
    [
        TaskSpec(container_spec=ContainerSpec(image="busybox:1", env=[], user="", labels={}), resources=Resources()),
        TaskSpec(container_spec=ContainerSpec(image="busybox:1", healthcheck=HealthConfig(test=[], interval=0))),
        TaskSpec(container_spec=ContainerSpec(image="busybox:1"), resources=Resources(limits=Limit(memory_bytes=0))),
        TaskSpec(container_spec=ContainerSpec(image="busybox:1"), restart_policy=RestartPolicy(max_attempts=0)),
    ],
)
def test_the_same_in_other_words_is_no_drift(spec):
    new = changed()
    assert not drifts(replace(new, spec=replace(new.spec, task_template=spec)), task(OLD, 1))


def test_a_new_placement_that_the_node_meets_is_no_drift():
    new = changed(constraints=["node.labels.zone==a"])
    old = task(OLD, 1, on="n1")
    assert not drifts(new, old, node("n1", labels={"zone": "a"}))
    assert drifts(new, old, node("n1"))
    assert drifts(new, old)
    assert drifts(new, task(OLD, 1, S.PENDING))
    assert drifts(changed(constraints=["node.labels.zone==a"], image="x"), old, node("n1", labels={"zone": "a"}))


def test_all_tasks_of_one_version_get_the_same_answer():
    drifted = Drift(view(), changed(memory=5 * MIB))
    assert [drifted(task(OLD, slot)) for slot in (1, 2)] == [True, True]
