# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to the agent on this host, by its control socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

DEFAULT_SOCKET = "/run/covey/covey.sock"
TIMEOUT = 10.0
_PIECE = 1 << 20


class CallFailed(Exception):
    """The agent answered, but not with what was asked for; the text is its own."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("covey", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of dialling a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Agent:
    """The agent behind one socket; OSError if there is none, CallFailed with its words if it refuses."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, target: str, timeout: float = TIMEOUT) -> Any:
        """The JSON answer."""
        return json.loads(b"".join(self.stream("GET", target, b"", timeout)))

    def post(self, target: str, body: bytes, timeout: float = TIMEOUT) -> Any:
        """The JSON answer, None for an empty one."""
        answer = b"".join(self.stream("POST", target, body, timeout))
        return json.loads(answer) if answer.strip() else None

    def stream(self, method: str, target: str, body: bytes, timeout: float) -> Iterator[bytes]:
        """The answer's body as it comes; ``timeout`` is for each piece."""
        with closing(_Connection(self._path, timeout)) as connection:
            connection.request(method, target, body)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise CallFailed(_message(answer.read()) or f"{method} {target}: status {answer.status}")
            while piece := answer.read(_PIECE):
                yield piece
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""
