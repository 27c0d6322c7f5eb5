# SPDX-License-Identifier: GPL-3.0-or-later
"""How two pieces of JSON differ, field by field.  A list is one value, since its order counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from covey.api.bodies import Difference

#: Maps whose keys are the user's, and may hold dots.
USERS_KEYS = frozenset({"Labels", "Options"})


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Each field that is not the same, sorted by path; None stands for what is not there."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield Difference(path=path, before=before, after=after)
        return
    for name in sorted(before.keys() | after.keys()):
        yield from _field(before.get(name), after.get(name), _below(path, name))


def _field(before: Any, after: Any, path: str) -> Iterator[Difference]:
    """A map that is on one side only is told apart field by field too, unless it is empty."""
    if isinstance(before, dict) and after is None:
        after = {} if before else None
    if isinstance(after, dict) and before is None:
        before = {} if after else None
    yield from differences(before, after, path)


def _below(path: str, name: str) -> str:
    if path.rpartition(".")[2] in USERS_KEYS:
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name
