# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tasks are no longer what their service's spec of today says.  Read by ``rolling``, and by the API's lists.

A spec that only says the same in other words is no drift, and neither is a new placement that the task's node meets.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from covey.model.objects import Service, Task
from covey.plan.placement.constraint import fits
from covey.state.view import View

#: Where a declared 0 is not the same as nothing declared.
_ZERO_COUNTS = ("Delay", "StopGracePeriod")


class _Verdict(Enum):
    SAME = "same"
    PLACEMENT = "placement"
    DIFFERENT = "different"


class Drift:
    """Answers for the tasks of one service.  All tasks of one ``service_version`` have one spec, so it looks once."""

    def __init__(self, view: View, service: Service) -> None:
        self._view, self._service = view, service
        endpoint = service.spec.endpoint_spec
        self._ports = tuple((endpoint.ports if endpoint else None) or ())
        self._verdicts = {service.version: _Verdict.SAME}

    def __call__(self, task: Task) -> bool:
        """``task`` should be replaced by one of the service's spec."""
        verdict = self._verdicts.get(task.service_version)
        if verdict is None:
            verdict = self._verdicts[task.service_version] = self._compare(task)
        if verdict is _Verdict.PLACEMENT:
            node = self._view.nodes.get(task.node_id)
            return node is None or not fits(self._service.spec.task_template, node)
        return verdict is _Verdict.DIFFERENT

    def _compare(self, task: Task) -> _Verdict:
        template = self._service.spec.task_template
        if _meaning(task.ports) != _meaning(self._ports):
            return _Verdict.DIFFERENT
        ours = _meaning(task.spec)
        if ours == _meaning(template):
            return _Verdict.SAME
        placed_alike = msgspec.structs.replace(template, placement=task.spec.placement)
        return _Verdict.PLACEMENT if ours == _meaning(placed_alike) else _Verdict.DIFFERENT


def _meaning(value: object) -> Any:
    """``value`` without what asks for nothing: null, false, "", 0 where it means unset, and empty lists and maps."""
    return _pruned(msgspec.to_builtins(value))


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _pruned(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each or (name in _ZERO_COUNTS and each == 0)}
    if isinstance(value, (list, tuple)):
        return [_pruned(each) for each in value]
    return value
