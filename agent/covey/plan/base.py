# SPDX-License-Identifier: GPL-3.0-or-later
"""What a planner is: a function from the state and the time to the changes it wants.  It remembers nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from covey.model.changes import Change
from covey.state.view import View


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change now, and when to ask again even if nothing happens.

    ``wake_at`` (unix seconds) must be set whenever a decision waits for time alone; dropping it loses a wake-up.
    """

    changes: tuple[Change, ...] = ()
    wake_at: float | None = None


#: Ids for objects a planner creates come from this argument, so that it stays a pure function of its arguments.
NewId = Callable[[], str]
Planner = Callable[[View, float, NewId], Plan]


def earliest(first: float | None, second: float | None) -> float | None:
    """The sooner of two wake-ups, either of which may be absent."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
