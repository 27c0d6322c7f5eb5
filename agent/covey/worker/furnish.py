# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task's container is made of on this node: its spec, placeholders filled in, its secrets and configs.

Each secret and config becomes a file of ours, bound read-only to its target; so the engine's own records of the
container name files and never hold a value.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from covey.model.errors import FailedPrecondition
from covey.model.objects import NodeDescription, Task
from covey.model.references import Use, uses
from covey.model.secret import Secret
from covey.model.session import Provision
from covey.model.spec import FileTarget, Mount, MountType
from covey.worker import template
from covey.worker.files import TaskFile

replace = msgspec.structs.replace


def files_of(task: Task, node: NodeDescription, held: Mapping[str, Provision]) -> list[TaskFile]:
    """The files of an expanded task, in the order of its references; says which value is not there."""
    used = [(use, _held(use, held)) for use in uses(task.spec.container_spec)]
    by_target = {(use.kind, use.file.name): provision for use, provision in used}
    return [_file(use, _filled(task, node, use, provision, by_target)) for use, provision in used]


def _held(use: Use, held: Mapping[str, Provision]) -> Provision:
    found = held.get(use.id)
    if found is None:
        raise FailedPrecondition(f"{use.kind} {use.name} ({use.id}) is no longer in the cluster")
    return found


def _filled(
    task: Task, node: NodeDescription, use: Use, provision: Provision, by_target: Mapping[tuple[str, str], Provision]
) -> Secret:
    if not provision.template:
        return provision.data
    return template.fill(task, node, f"{use.kind} {use.name}", provision.data, by_target)


def _file(use: Use, data: Secret) -> TaskFile:
    mode = FileTarget.DEFAULT_MODE if use.file.mode is None else use.file.mode
    return TaskFile(use.path, data, int(use.file.uid or 0), int(use.file.gid or 0), mode)


def with_files(task: Task, place: Callable[[int], Path]) -> Task:
    """The task with each of its files bound to its target; ``place`` says where the file of a number is."""
    spec = task.spec.container_spec
    binds = [
        Mount(type=MountType.BIND, source=str(place(number)), target=use.target, read_only=True)
        for number, use in enumerate(uses(spec))
    ]
    if not binds:
        return task
    mounted = replace(spec, mounts=[*(spec.mounts or ()), *binds])
    return replace(task, spec=replace(task.spec, container_spec=mounted))
