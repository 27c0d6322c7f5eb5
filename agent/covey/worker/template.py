# SPDX-License-Identifier: GPL-3.0-or-later
"""Placeholders in a task's spec, filled in on the node it runs on: ``{{.Node.Hostname}}`` and its kin.

The part of Go's text/template that names a value: ``{{.A.B}}`` and ``{{index .Service.Labels "key"}}``.  Anything else
between braces is refused with its place, never passed on as it is.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from covey.model.errors import InvalidArgument
from covey.model.objects import NodeDescription, Task
from covey.model.spec import DriverConfig, Mount, VolumeOptions

replace = msgspec.structs.replace

_EXPRESSION = re.compile(r"(?P<left>\s*\{\{-\s|\{\{)\s*(?P<body>[^{}]*?)\s*(?P<right>\s-\}\}\s*|\}\})")
_INDEX = re.compile(r'index\s+\.Service\.Labels\s+(?:"(?P<quoted>[^"\\]*)"|`(?P<raw>[^`]*)`)')
_LABEL = re.compile(r"\.Service\.Labels\.(?P<key>[A-Za-z_][A-Za-z0-9_]*)")


def expand(task: Task, node: NodeDescription) -> Task:
    """``task`` with its environment, hostname and mounts filled in; InvalidArgument names the field it cannot do."""
    spec, fill = task.spec.container_spec, _Filler(task, node)
    if not any("{{" in text for text in _texts(spec)):
        return task
    filled = replace(
        spec,
        env=None if spec.env is None else [fill.variable(text, n) for n, text in enumerate(spec.env)],
        hostname=fill.optional(spec.hostname, "Hostname"),
        mounts=None if spec.mounts is None else [fill.mount(one, f"Mounts[{n}]") for n, one in enumerate(spec.mounts)],
    )
    return replace(task, spec=replace(task.spec, container_spec=filled))


def _texts(value: Any) -> Iterator[str]:
    """Every string in a spec, at any depth."""
    if isinstance(value, str):
        yield value
        return
    inner: Any = ()
    if isinstance(value, msgspec.Struct):
        inner = msgspec.structs.asdict(value).values()
    elif isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    for element in inner:
        yield from _texts(element)


class _Filler:
    """The values of one task on one node."""

    def __init__(self, task: Task, node: NodeDescription) -> None:
        self._labels = task.service_labels or {}
        self._values = {
            ".Service.ID": task.service_id,
            ".Service.Name": task.service_name,
            ".Node.ID": task.node_id,
            ".Node.Hostname": node.hostname,
            ".Node.Platform.Architecture": node.architecture,
            ".Node.Platform.OS": node.os,
            ".Task.ID": task.id,
            ".Task.Name": task.name,
            ".Task.Slot": str(task.slot or task.node_id),
        }

    def text(self, template: str, path: str) -> str:
        """``template`` with every placeholder replaced."""
        full = f"TaskTemplate.ContainerSpec.{path}"
        filled = _EXPRESSION.sub(lambda found: self._value(found["body"], full), template)
        if "{{" in _EXPRESSION.sub("", template):
            raise InvalidArgument(f"a placeholder is not closed in {template!r}", full)
        return filled

    def _value(self, expression: str, path: str) -> str:
        if expression in self._values:
            return self._values[expression]
        indexed, named = _INDEX.fullmatch(expression), _LABEL.fullmatch(expression)
        if indexed:
            return self._labels.get(indexed["quoted"] or indexed["raw"] or "", "")
        if named and named["key"] in self._labels:
            return self._labels[named["key"]]
        raise InvalidArgument(
            f"{{{{{expression}}}}} is not a placeholder that can be filled in (known: "
            f'{", ".join(self._values)}, .Service.Labels.KEY, index .Service.Labels "KEY")',
            path,
        )

    def optional(self, template: str | None, path: str) -> str | None:
        return None if template is None else self.text(template, path)

    def variable(self, assignment: str, number: int) -> str:
        """``NAME=value``: the value only."""
        name, equals, value = assignment.partition("=")
        return f"{name}{equals}{self.text(value, f'Env[{number}]')}"

    def mount(self, mount: Mount, path: str) -> Mount:
        return replace(
            mount,
            source=self.optional(mount.source, f"{path}.Source"),
            target=self.text(mount.target, f"{path}.Target"),
            volume_options=self._volume(mount.volume_options, f"{path}.VolumeOptions"),
        )

    def _volume(self, options: VolumeOptions | None, path: str) -> VolumeOptions | None:
        if options is None:
            return None
        driver = options.driver_config
        if driver is not None:
            filled = self._map(driver.options, f"{path}.DriverConfig.Options")
            driver = DriverConfig(name=driver.name, options=filled)
        return replace(options, labels=self._map(options.labels, f"{path}.Labels"), driver_config=driver)

    def _map(self, texts: dict[str, str] | None, path: str) -> dict[str, str] | None:
        return None if texts is None else {key: self.text(text, f"{path}.{key}") for key, text in texts.items()}
