# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages between a worker and the dispatcher, as msgpack frames of a web socket.

A session begins with Hello and Welcome (or Redirect).  The first Assignments of a session is complete: whatever it does
not list must stop.  Each later one adds or replaces ``tasks`` and drops ``removed``.  Secrets and configs come before
the tasks that refer to them, in as many Provisions as it takes.
"""

from __future__ import annotations

from typing import dataclass_transform

import msgspec

from covey.model.objects import NodeDescription, Task, TaskStatus
from covey.model.secret import Secret
from covey.model.spec import Role

#: The newest protocol that this release speaks, and the oldest.
PROTOCOL = 1
OLDEST_PROTOCOL = 1
MAX_FRAME = 16 << 20


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base: the class name travels as the tag."""


class ManagerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a manager's cluster server answers: ``address`` is ``host:2377``."""

    node_id: str
    address: str


class Hello(Message, kw_only=True):
    """Worker: here I am, this is my host, and I speak any protocol from ``oldest`` to ``protocol``."""

    protocol: int = PROTOCOL
    oldest: int = OLDEST_PROTOCOL
    description: NodeDescription


class Welcome(Message, kw_only=True):
    """Dispatcher: the session stands; send a Heartbeat each ``heartbeat_period`` seconds.

    ``protocol`` is the one of this session: the newest that both speak.
    """

    session_id: str
    heartbeat_period: float
    managers: tuple[ManagerAddress, ...]
    protocol: int = PROTOCOL
    epoch: int = 0  # of the cluster; a manager of an earlier one than was heard of has no say


class Redirect(Message, kw_only=True):
    """A manager that is not the leader: ask ``leader``, or any of ``managers`` later if it is None."""

    leader: ManagerAddress | None
    managers: tuple[ManagerAddress, ...]


class Refused(Message, kw_only=True):
    """Dispatcher: no session, for this reason; ``final`` means that asking again is pointless (removed, too old)."""

    reason: str
    final: bool = False


class Heartbeat(Message, kw_only=True):
    """Worker: still alive."""


class HeartbeatAck(Message, kw_only=True):
    """Dispatcher: heard.  A worker that misses these looks for another manager."""


class Describe(Message, kw_only=True):
    """Worker: my host's facts changed."""

    description: NodeDescription


class Restarting(Message, kw_only=True):
    """Worker: my agent is about to restart, and will be back ``within`` so many seconds; said last in a session."""

    within: float


class RestartNoted(Message, kw_only=True):
    """Dispatcher: that is in the state, so that the next leader knows it, too."""


class StatusReport(Message, kw_only=True):
    """Worker: what became of my tasks.  Repeated with a higher ``sequence`` until acknowledged."""

    sequence: int
    statuses: dict[str, TaskStatus]


class StatusAck(Message, kw_only=True):
    """Dispatcher: the report of that sequence is committed."""

    sequence: int


class Provision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a secret or config, for memory only.  An id names one value for ever.

    ``template``: the driver that fills in placeholders in ``data`` for each task; empty for none.
    """

    id: str
    kind: str
    name: str
    data: Secret
    template: str = ""


class Provisions(Message, kw_only=True):
    """Dispatcher: values that tasks of the next Assignments refer to."""

    items: tuple[Provision, ...]


class Assignments(Message, kw_only=True):
    """Dispatcher: what this node should run.  Numbered from 1 in each session; a gap means start a new session.

    ``provisions`` are the ids of all secrets and configs that this node may hold from now on; it forgets all others.
    """

    sequence: int
    complete: bool
    tasks: tuple[Task, ...] = ()
    removed: tuple[str, ...] = ()
    provisions: tuple[str, ...] = ()


class RoleWanted(Message, kw_only=True):
    """Dispatcher: this node should become ``role``; it renews its certificate, which then says so."""

    role: Role


class CertificateWanted(Message, kw_only=True):
    """Dispatcher: this node should renew its certificate now."""


class RootChanged(Message, kw_only=True):
    """Dispatcher: of the roots (PEM) that this node trusts, only this one counts from now on."""

    root: bytes


class ManagersChanged(Message, kw_only=True):
    """Dispatcher: the managers one may turn to from now on."""

    managers: tuple[ManagerAddress, ...]


def common_protocol(newest: int, oldest: int) -> int | None:
    """The newest protocol that this release and one that speaks those have in common, if there is any."""
    common = min(newest, PROTOCOL)
    return common if common >= max(oldest, OLDEST_PROTOCOL) else None


FromWorker = Hello | Heartbeat | Describe | Restarting | StatusReport
FromDispatcher = (
    Welcome
    | Redirect
    | Refused
    | HeartbeatAck
    | RestartNoted
    | StatusAck
    | Provisions
    | Assignments
    | ManagersChanged
    | RoleWanted
    | CertificateWanted
    | RootChanged
)
