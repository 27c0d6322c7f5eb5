# SPDX-License-Identifier: GPL-3.0-or-later
"""What a handler gets: the request, the node it runs on, and on a manager the state and the one way to write it.

Never in it: who may answer a call (that is the router's), what any call means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from covey.api.http import Request
from covey.api.lastknown import LastKnown
from covey.api.ports import Engine, Managing, NodeLife
from covey.model.changes import Batch, Change
from covey.model.clock import Clock
from covey.model.errors import Conflict, InvalidArgument, Unavailable
from covey.state.view import View
from covey.store.base import Store

REQUEST_ID = "X-Covey-Request-Id"
LONGEST_REQUEST_ID = 128
WRITE_TIMEOUT = 10.0
ATTEMPTS = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that any node answers."""

    request: Request
    args: Mapping[str, str]
    node: NodeLife
    engine: Engine
    known: LastKnown
    clock: Clock


@dataclass(frozen=True, slots=True)
class ManagerCall:
    """One call that a manager answers from ``view``; unless the caller asked for less, as leader."""

    request: Request
    args: Mapping[str, str]
    managing: Managing
    clock: Clock
    view: View
    attempt: int = 0

    @property
    def store(self) -> Store:
        return self.managing.store

    @property
    def request_id(self) -> str:
        """The caller's id for this request, bound to its content, so that only a true repeat counts as one."""
        request = self.request
        content = "\n".join((request.method, request.path, request.query.encode())).encode() + b"\n" + request.body
        digest = hashlib.sha256(content).hexdigest()[:16]
        return f"{request.headers.get(REQUEST_ID)}:{digest}:{self.attempt}"

    @property
    def is_done_already(self) -> bool:
        """This very request took effect before, and its answer was lost."""
        _, error = self.view.requests.get(self.request_id, (0, "never asked"))
        return not error

    async def propose(self, *changes: Change) -> int:
        """Write; the log index.  Conflict and its kin, NotLeader; Unavailable when nobody knows the outcome."""
        batch = Batch(request_id=self.request_id, at=self.clock.now(), changes=changes)
        try:
            return await self.store.propose(batch, WRITE_TIMEOUT)
        except Unavailable as error:
            raise Unavailable(
                f"{error}; the outcome is unknown: the change may still take effect, so look before you repeat it"
            ) from error

    async def retried(self, act: Callable[[ManagerCall], Awaitable[T]]) -> T:
        """Decide on the newest state and write, again as long as somebody else was quicker."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return await act(replace(self, attempt=attempt, view=self.store.view()))
            except Conflict:
                continue
        return await act(replace(self, attempt=ATTEMPTS - 1, view=self.store.view()))


def with_request_id(request: Request, new_id: str) -> Request:
    """The request with an id of its own, so that it can be passed on twice and take effect once."""
    given = request.headers.get(REQUEST_ID)
    if len(given) > LONGEST_REQUEST_ID or not given.isprintable():
        raise InvalidArgument(f"{REQUEST_ID} must be at most {LONGEST_REQUEST_ID} printable characters")
    if given:
        return request
    return replace(request, headers=request.headers.replaced(REQUEST_ID, new_id))


def version_of(request: Request, kind: str) -> int:
    """The version that an update was made from, which its query must name."""
    text = request.query.get("version")
    if not text.isdecimal() or not text.isascii():
        raise InvalidArgument(f"invalid {kind} version '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax")
    return int(text)
