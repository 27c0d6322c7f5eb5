# SPDX-License-Identifier: GPL-3.0-or-later
"""What is spoken on port 2377 besides the session: paths, headers and JSON bodies, for both ends.

Never in it: sockets.  A failure is ``{"message", "code"}``, where the code is the name of a class of the error tree.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import field

from covey.model import errors
from covey.model.admission import Wire
from covey.model.codec import UNREADABLE
from covey.model.secret import Secret
from covey.model.spec import Availability

PORT = 2377

ROOT = "/v1/root"
JOIN = "/v1/join"
RENEW = "/v1/renew"
SESSION = "/v1/session"
RAFT_MEMBERS = "/v1/raft/members"
RAFT_JOIN = "/v1/raft/join"
RAFT_LEAVE = "/v1/raft/leave"
API = "/v1/api"

#: Set by a manager that passes a call on to the leader, and believed from managers only: for which node, from where.
FOR_NODE = "Covey-For-Node"
FOR_ADDRESS = "Covey-For-Address"

#: Answers larger than this are refused.
ANSWER_LIMIT = 64 << 20


class JoinCall(Wire, kw_only=True):
    """``POST /v1/join``, open to strangers."""

    csr: str = field(name="CSR")
    token: Secret
    hostname: str = ""
    availability: Availability = Availability.ACTIVE


class RenewCall(Wire, kw_only=True):
    """``POST /v1/renew``."""

    csr: str = field(name="CSR")


class RaftJoinCall(Wire, kw_only=True):
    """``POST /v1/raft/join``: where the caller's cluster server (2377) and its Raft (2378) answer."""

    addr: str
    raft_addr: str


class RaftMembers(Wire, kw_only=True):
    """The voters by Raft id, and their addresses; ``epoch`` is that of the cluster; whether the caller ``votes``."""

    members: dict[str, str]
    epoch: int = 0
    votes: bool = True


class Failure(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    message: str
    code: str = ""


B = TypeVar("B")


def encode(body: Wire) -> bytes:
    """The body as JSON, secrets included: for mutual TLS, or TLS to a root that was checked, only."""
    return msgspec.json.encode(body, enc_hook=_to_json)


def decode(data: bytes, kind: type[B]) -> B:
    """The body; InvalidArgument says where it is wrong, and shows nothing of it."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_from_json)
    except UNREADABLE as error:
        raise errors.InvalidArgument(f"the body is not what this path takes: {error}") from None


def failure(status: int, body: bytes) -> errors.CoveyError:
    """The error that the other end raised, as far as it can be told."""
    try:
        found = msgspec.json.decode(body, type=Failure)
    except UNREADABLE:
        return errors.Unavailable(f"it answered HTTP {status} without saying why")
    return from_code(found.code, found.message)


def from_code(code: str, message: str) -> errors.CoveyError:
    """An error of that class with that text; facts that only its raiser knew are empty."""
    kind = getattr(errors, code, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.CoveyError)):
        kind = errors.CoveyError
    error = kind.__new__(kind, message)
    for name, value in _UNKNOWN.get(kind, {}).items():
        setattr(error, name, value)
    return error


#: What the constructors of these would have set.
_UNKNOWN: dict[type[errors.CoveyError], dict[str, Any]] = {
    errors.InvalidArgument: {"path": ""},
    errors.NotFound: {"kind": "", "reference": ""},
    errors.OutOfSequence: {"read": 0, "current": 0},
    errors.NotLeader: {"leader": None},
}


def _to_json(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal().decode()
    raise NotImplementedError(type(value).__name__)


def _from_json(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value.encode())
    raise ValueError("expected text")
