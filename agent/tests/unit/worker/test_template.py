# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from covey.model.errors import InvalidArgument
from covey.model.objects import NodeDescription, Task
from covey.model.spec import ContainerSpec, DriverConfig, Mount, MountType, TaskSpec, VolumeOptions
from covey.worker.template import expand

NODE = NodeDescription(hostname="host1", architecture="x86_64", os="linux")


def task(slot: int = 3, **spec: Any) -> Task:
    return Task(
        id="t1",
        service_id="s1",
        service_name="web",
        slot=slot,
        node_id="n1",
        service_labels={"tier": "front", "a.b": "dotted"},
        spec=TaskSpec(container_spec=ContainerSpec(image="i", **spec)),
    )


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{.Node.Hostname}}", "host1"),
        ("{{ .Node.Hostname }}", "host1"),
        ("a-{{.Service.ID}}-{{.Service.Name}}-z", "a-s1-web-z"),
        ("{{.Node.ID}}/{{.Node.Platform.Architecture}}/{{.Node.Platform.OS}}", "n1/x86_64/linux"),
        ("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "t1 web.3.t1 3"),
        ("{{.Service.Labels.tier}}", "front"),
        ('{{index .Service.Labels "a.b"}}', "dotted"),
        ("{{index .Service.Labels `a.b`}}", "dotted"),
        ('{{index .Service.Labels "absent"}}', ""),
        ("no } placeholder { here }}", "no } placeholder { here }}"),
        ("{a}", "{a}"),
        ("x {{- .Task.Slot -}} y", "x3y"),
    ],
)
def test_each_placeholder(text: str, filled: str) -> None:
    assert expand(task(env=[f"V={text}"]), NODE).spec.container_spec.env == [f"V={filled}"]


def test_the_slot_of_a_global_task_is_its_node() -> None:
    assert expand(task(0, hostname="{{.Task.Slot}}"), NODE).spec.container_spec.hostname == "n1"


@pytest.mark.parametrize(
    "text", ["{{.Nope}}", "{{", "{{.Node.Hostname", "{{if true}}x{{end}}", "{{.Service.Labels.absent}}", "{{ }}"]
)
def test_what_cannot_be_filled_in_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        expand(task(env=["A=1", f"V={text}"]), NODE)
    assert caught.value.path == "TaskTemplate.ContainerSpec.Env[1]"


def test_mounts_are_filled_in_and_everything_else_is_left() -> None:
    options = VolumeOptions(
        labels={"of": "{{.Service.Name}}"}, driver_config=DriverConfig(name="nfs", options={"at": "{{.Task.Slot}}"})
    )
    mounts = [
        Mount(type=MountType.VOLUME, source="v-{{.Task.Slot}}", target="/{{.Node.Hostname}}", volume_options=options),
        Mount(source="/plain", target="/plain"),
    ]
    before = task(mounts=mounts, args=["{{.Node.Hostname}}"], labels={"l": "{{.Nope}}"})
    spec = expand(before, NODE).spec.container_spec
    assert spec.mounts is not None
    assert (spec.mounts[0].source, spec.mounts[0].target) == ("v-3", "/host1")
    assert spec.mounts[0].volume_options == VolumeOptions(
        labels={"of": "web"}, driver_config=DriverConfig(name="nfs", options={"at": "3"})
    )
    assert spec.mounts[1] == mounts[1]
    assert (spec.args, spec.labels) == (before.spec.container_spec.args, before.spec.container_spec.labels)


def test_names_of_variables_are_not_templates() -> None:
    assert expand(task(env=["{{x=1", "ALONE"], hostname="{{.Task.Slot}}"), NODE).spec.container_spec.env == [
        "{{x=1",
        "ALONE",
    ]


def test_a_task_without_placeholders_is_the_same_task() -> None:
    plain = task(env=["A=1"])
    assert expand(plain, NODE) is plain
