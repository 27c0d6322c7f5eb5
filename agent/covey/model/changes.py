# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of the state: one batch is one transaction, all of it or nothing.

Desired and observed have different writers: ``Update`` never overwrites what a worker observed with something older,
and the ``Observe*`` changes never touch what a user or a planner decided.
"""

from __future__ import annotations

from dataclasses import dataclass

from covey.model.objects import NodeDescription, NodeStatus, Object, TaskStatus, UpdateStatus

#: The newest format of log entries and snapshots that this release reads.  It grows with each new kind of change or
#: object; a field that an older release may ignore needs no new one.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Create:
    """Add an object; its id and, for services, its name must be free."""

    object: Object


@dataclass(frozen=True, slots=True)
class Update:
    """Replace an object that is still at ``object.version``.

    Of a task, the status survives if it is further up the ladder; of a node, status and description always survive; of
    a service, ``update_status`` survives as long as the spec is the same and is cleared by a new one.
    """

    object: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an object that is still at ``version``."""

    kind: str
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Take its name from a secret or config that is still at ``version``; it stays for who refers to its id."""

    kind: str
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class ObserveTask:
    """A worker's word on a task; ignored if the task is gone or already further up the ladder."""

    id: str
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class ObserveNode:
    """What is seen of a node; ignored if the node is gone.  ``None`` leaves a part as it is."""

    id: str
    status: NodeStatus | None = None
    description: NodeDescription | None = None


@dataclass(frozen=True, slots=True)
class SetUpdateStatus:
    """How the roll-out of a service goes; ignored unless the service is still at ``version``."""

    service_id: str
    version: int
    status: UpdateStatus | None


Change = Create | Update | Delete | Retire | ObserveTask | ObserveNode | SetUpdateStatus


@dataclass(frozen=True, slots=True)
class Batch:
    """One command of the log.

    ``request_id`` makes a repeat harmless.  ``fence`` is the term of the leader that decided it, 0 for none: once a
    newer term has written, older fences are refused.  ``at`` is the proposer's time, for ``updated_at``.  ``format`` is
    what it was read in; the codec writes what the changes need.
    """

    request_id: str
    at: float
    changes: tuple[Change, ...]
    fence: int = 0
    format: int = 1
