# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder a task climbs, and the named groups of its rungs.  States only ever increase.

Values are the peer's (swarm-reference 3.1), so that gaps stay for rungs to come.
"""

from __future__ import annotations

from enum import IntEnum


class TaskState(IntEnum):
    """One rung; ``str(state)`` is its name on the wire."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832

    def __str__(self) -> str:
        return self.name.lower()


#: Desired states a manager may write.
DESIRED = frozenset({TaskState.READY, TaskState.RUNNING, TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.REMOVE})


def is_terminal(state: TaskState) -> bool:
    """The task will never run (again)."""
    return state > TaskState.RUNNING


def is_wanted(desired: TaskState) -> bool:
    """The managers want this task alive, now or soon."""
    return desired <= TaskState.COMPLETE


def holds_resources(state: TaskState) -> bool:
    """The task counts against its node: placed and not over."""
    return TaskState.PENDING <= state <= TaskState.RUNNING


def failed(state: TaskState) -> bool:
    """The task ended badly, by its own fault or its node's."""
    return state in (TaskState.FAILED, TaskState.REJECTED)


def parse_state(name: str) -> TaskState:
    """The state of that wire name; raises KeyError."""
    return TaskState[name.upper()]
