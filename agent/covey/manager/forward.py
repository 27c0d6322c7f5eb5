# SPDX-License-Identifier: GPL-3.0-or-later
"""Control calls on their way to the leader: the API's values as the client's, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from covey.api.http import Headers, Request, Response
from covey.client.managers import Call, Managers

#: Besides what the call itself may wait for.
PATIENCE = 15.0
LONGEST_WAIT = 3600.0
#: Headers that speak of the connection, not of the call.
OF_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"})


def forwarder(managers: Managers) -> Callable[[str, Request], Awaitable[Response]]:
    """A ``covey.manager.manager.Forward`` over that client."""

    async def forward(address: str, request: Request) -> Response:
        parts = urlsplit(request.target)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        call = Call(request.method, target, tuple(of_call(request.headers.items())), request.body)
        answer = await managers.forward(address, call, PATIENCE + _wait(request))
        return Response(answer.status, Headers(of_call(answer.headers)), answer.body)

    return forward


def of_call(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """The headers that belong to the call or answer itself."""
    return [(name, value) for name, value in headers if name.lower() not in OF_CONNECTION]


def _wait(request: Request) -> float:
    """How long the call asks to be kept waiting; the handler judges whether that is allowed."""
    try:
        seconds = float(request.query.get("wait", "0"))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)
