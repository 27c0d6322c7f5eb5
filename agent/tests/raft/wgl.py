# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a history of a register could have happened one operation after the other: the search of Wing and Gong, with
Lowe's memory of where it has been.

Each operation takes effect once between its call and its answer; one that was never answered at some time after its
call, or never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Operation:
    """``read`` and what it returned; ``write`` of ``value``; ``cas`` from ``expected`` to ``value`` and whether it did.

    ``done`` is ``NEVER`` if nobody knows; then ``result`` does not count.
    """

    call: float
    done: float
    kind: str
    value: Any = None
    expected: Any = None
    result: Any = None


def step(state, operation):
    """The register after ``operation`` on ``state``, and whether its answer fits."""
    known = operation.done != NEVER
    match operation.kind:
        case "read":
            return state, not known or operation.result == state
        case "write":
            return operation.value, True
        case "cas":
            holds = state == operation.expected
            return (operation.value if holds else state), not known or operation.result == holds
    raise ValueError(operation.kind)


def linearizable(operations, initial=None):
    """Whether there is an order that explains every answer."""
    history = sorted(operations, key=lambda operation: operation.call)
    answered = sum(1 << place for place, operation in enumerate(history) if operation.done != NEVER)
    seen, waiting = set(), [(0, initial)]
    while waiting:
        done, state = waiting.pop()
        if done & answered == answered:
            return True
        for place in _next(history, done):
            after, fits = step(state, history[place])
            position = done | 1 << place, after
            if fits and position not in seen:
                seen.add(position)
                waiting.append(position)
    return False


def _next(history, done):
    """The operations that may come next: those called before any other one that is left was answered."""
    start = (~done & (done + 1)).bit_length() - 1
    deadline, found = NEVER, []
    for place in range(start, len(history)):
        operation = history[place]
        if operation.call > deadline:
            break
        if not done >> place & 1:
            found.append(place)
            deadline = min(deadline, operation.done)
    return [place for place in found if history[place].call <= deadline]
