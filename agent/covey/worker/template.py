# SPDX-License-Identifier: GPL-3.0-or-later
"""Placeholders in a task's spec, secrets and configs, filled in on the node: ``{{.Node.Hostname}}`` and so on.

The part of Go's text/template that names a value: ``{{.A.B}}`` and ``{{index .Service.Labels "key"}}``; in secrets and
configs also ``{{secret "TARGET"}}``, ``{{config "TARGET"}}`` and ``{{env "NAME"}}``.  Anything else between braces is
refused with its place, never passed on as it is.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from covey.model.errors import InvalidArgument
from covey.model.objects import NodeDescription, Task
from covey.model.secret import Secret
from covey.model.session import Provision
from covey.model.spec import DriverConfig, Mount, VolumeOptions
from covey.model.templates import CALL, EXPRESSION, INDEX, KNOWN, LABEL, NAMES, bytes_of, is_closed, text_of

replace = msgspec.structs.replace


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


def fill(
    task: Task, node: NodeDescription, what: str, data: Secret, by_target: Mapping[tuple[str, str], Provision]
) -> Secret:
    """The text of a secret or config (``what``) with its placeholders filled in, for an expanded task.

    ``by_target`` are the task's own secrets and configs, as (kind, file name).  A refusal never shows the text itself.
    """
    filler, text = _Filler(task, node), text_of(data.reveal())
    env = dict(text.partition("=")[::2] for text in task.spec.container_spec.env or ())

    def value(found: re.Match[str]) -> str:
        call = CALL.fullmatch(found["body"])
        if call is None:
            known = filler.known(found["body"])
            if known is None:
                number = text.count("{{", 0, found.end())
                raise InvalidArgument(f"placeholder {number} cannot be filled in for this service", what)
            return known
        name = call["quoted"] or call["raw"] or ""
        if call["function"] == "env" and name in env:
            return env[name]
        referred = by_target.get((call["function"], name))
        if referred is None:
            raise InvalidArgument(f"it refers to {call['function']} {name}, which the task does not have", what)
        return text_of(referred.data.reveal())

    if not is_closed(text):
        raise InvalidArgument("a placeholder is not closed", what)
    return Secret(bytes_of(EXPRESSION.sub(value, text)))


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
        service = task.service_id, task.service_name
        host = task.node_id, node.hostname, node.architecture, node.os
        values = (*service, *host, task.id, task.name, str(task.slot or task.node_id))
        self._values = dict(zip(NAMES, values, strict=True))

    def text(self, template: str, path: str) -> str:
        """``template`` with every placeholder replaced."""
        full = f"TaskTemplate.ContainerSpec.{path}"
        filled = EXPRESSION.sub(lambda found: self._value(found["body"], full), template)
        if not is_closed(template):
            raise InvalidArgument(f"a placeholder is not closed in {template!r}", full)
        return filled

    def known(self, expression: str) -> str | None:
        """The value that the expression names; None if it names none."""
        if expression in self._values:
            return self._values[expression]
        indexed, named = INDEX.fullmatch(expression), LABEL.fullmatch(expression)
        if indexed:
            return self._labels.get(indexed["quoted"] or indexed["raw"] or "", "")
        return self._labels.get(named["key"]) if named else None

    def _value(self, expression: str, path: str) -> str:
        value = self.known(expression)
        if value is not None:
            return value
        raise InvalidArgument(
            f"{{{{{expression}}}}} is not a placeholder that can be filled in (known: {KNOWN})",
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
