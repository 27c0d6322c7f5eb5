# SPDX-License-Identifier: GPL-3.0-or-later
"""What the local engine says of itself, and what it said last while it does not answer.

Only for what is shown to a person; nothing is ever decided by it.
"""

from __future__ import annotations

from typing import Any

from covey.api.http import Headers
from covey.api.ports import Engine
from covey.model.errors import EngineError

#: Before the engine answered for the first time: a range of versions that every engine since 20.10 speaks.
API_VERSION, MIN_API_VERSION = "1.41", "1.24"
PING_TIMEOUT = 2.0
_PING = Headers([("Api-Version", API_VERSION), ("Docker-Experimental", "false"), ("Ostype", "linux")])
_NOT_PASSED_ON = frozenset({"content-length", "content-type", "date", "swarm", "connection"})


class LastKnown:
    """A small memory in front of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[str, dict[str, Any]] = {}
        self._ping = _PING

    async def get(self, target: str) -> tuple[dict[str, Any], str]:
        """The engine's answer, or its last one and why there is none now."""
        try:
            answer = await self._engine.get_json(target)
        except EngineError as error:
            return dict(self._answers.get(target, {})), str(error)
        self._answers[target] = answer
        return dict(answer), ""

    async def ping(self) -> Headers:
        """The headers of the engine's ``_ping``, by which clients choose their version."""
        try:
            answer = await self._engine.fetch("GET", "/_ping", timeout=PING_TIMEOUT)
        except EngineError:
            return self._ping
        if answer.status == 200:
            passed_on = [(name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON]
            self._ping = Headers(passed_on)
        return self._ping
