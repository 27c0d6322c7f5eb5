# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control API needs of the node it runs on.  The daemon's rooms implement it; nothing here does anything.

Never in it: HTTP, except that a call is passed to the leader as it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from covey.api.bodies import (
    AdmitRequest,
    CompleteRequest,
    FindRequest,
    InitRequest,
    JoinRequest,
    RecoverRequest,
    RestoreRequest,
)
from covey.api.http import Headers, Request, Response
from covey.control.issuer import Issuer
from covey.model.admission import Admission, ManagerInfo
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.store.base import Store


class LocalState(StrEnum):
    """What this node is of a cluster; the peer's words."""

    INACTIVE = "inactive"
    PENDING = "pending"
    ACTIVE = "active"
    LOCKED = "locked"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What this node knows of itself without asking anybody.

    ``managers`` are those it would turn to; ``certificate``: from when to when its certificate holds; ``error`` is
    for a person: why the state is ERROR, or what else is wrong.
    """

    state: LocalState
    version: str
    node_id: str = ""
    cluster_id: str = ""
    role: Role | None = None
    advertise_addr: str = ""
    managers: tuple[ManagerInfo, ...] = ()
    certificate: tuple[float, float] | None = None
    error: str = ""


class Managing(Protocol):
    """This node while it is a manager."""

    @property
    def store(self) -> Store: ...
    @property
    def issuer(self) -> Issuer: ...

    async def admit(self, request: AdmitRequest) -> Admission:
        """Let in the holder of that request's key; called on the leader only.  A repeat gives the same node id."""

    async def forward(self, leader: str, request: Request) -> Response:
        """What the node with id ``leader`` answers to the call, body read whole.

        The other end answers it with ``ControlApi.answer_as_leader``.  Unavailable when no answer comes.  A call may
        take as long as its ``wait`` parameter says, and some seconds more.
        """


class NodeLife(Protocol):
    """This node's own life; the calls return when the change is durable."""

    def status(self) -> NodeReport: ...

    def managing(self) -> Managing | None:
        """None on a worker, and on a node that is in no cluster."""

    async def init(self, request: InitRequest) -> str:
        """Found a cluster; the node id.  AlreadyInCluster, InvalidArgument, FailedPrecondition."""

    async def restore(self, request: RestoreRequest) -> str:
        """Become the only manager of a backed-up cluster; the node id.  As ``init``; InvalidArgument for the file."""

    async def recover(self, request: RecoverRequest) -> str:
        """Become the only manager of this manager's cluster; the node id.

        NotInCluster; FailedPrecondition where this is no manager, or the managers have a leader.
        """

    async def find(self, request: FindRequest) -> None:
        """Turn to these managers, too, from now on.  NotInCluster, InvalidArgument."""

    async def join(self, request: JoinRequest) -> None:
        """Join with a token.  AlreadyInCluster, InvalidArgument, Forbidden, Unavailable."""

    async def unlock(self, unlock_key: Secret) -> None:
        """Go on as the manager that this node is.  Conflict if it is not locked, NotInCluster, WrongUnlockKey."""

    async def leave(self, force: bool) -> None:
        """Leave; what it ran is stopped.  That a manager may not simply go was checked before."""

    async def renew(self) -> None:
        """Get a new certificate now.  NotInCluster, Forbidden, Unavailable."""

    async def request_join(self, advertise_addr: str) -> bytes:
        """A certificate request (PEM) for a key that is kept until the join is complete; a repeat gives the same."""

    async def complete_join(self, request: CompleteRequest) -> None:
        """Take the admission, which must be for the key asked with.  AlreadyInCluster, InvalidArgument."""


class EngineAnswer(Protocol):
    """A whole answer of the engine."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> bytes: ...
    @property
    def message(self) -> str: ...


class Engine(Protocol):
    """The local container engine."""

    async def fetch(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 -- callers differ in patience
    ) -> EngineAnswer:
        """The answer, whatever its status; EngineDown when none comes in time."""

    async def get_json(self, target: str) -> Any:
        """The decoded answer to a GET; EngineError, EngineDown."""
