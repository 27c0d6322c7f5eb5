# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own small calls to the local engine: to merge its part into an answer, to learn which API it speaks.

Answers are whole and limited in size; `stream` is for those without end.  Never in it: containers of services (that is
the executor's), passing a client's request on (relay).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import msgspec

from covey.api.front.channel import Channel, decoded, encoded
from covey.api.front.sockets import connect
from covey.api.http import Headers
from covey.model import errors
from covey.model.codec import UNREADABLE

ANSWER_LIMIT = 32 * 1024 * 1024
TIMEOUT = 10.0
VERSION_TIMEOUT = 1.0
VERSION_AGE = 10.0
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True, slots=True)
class ApiVersions:
    """The range of API versions that the engine speaks."""

    minimum: str
    maximum: str

    def refusal(self, asked: str) -> str | None:
        """The engine's own words for a version outside the range; None for one inside."""
        version = _VERSION.fullmatch(asked)
        if version is None:
            return f"client version {asked} is not a version: one reads like {self.maximum}"
        if _order(asked) > _order(self.maximum):
            return f"client version {asked} is too new. Maximum supported API version is {self.maximum}"
        if _order(asked) < _order(self.minimum):
            return (
                f"client version {asked} is too old. Minimum supported API version is {self.minimum}, "
                "please upgrade your client to a newer version"
            )
        return None


UNKNOWN_VERSIONS = ApiVersions("1.24", "1.41")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine said, whole."""

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)

    @property
    def message(self) -> str:
        """The text of a failure."""
        try:
            return msgspec.json.decode(self.body, type=_Failure).message
        except UNREADABLE:
            return self.body.decode(errors="replace").strip() or f"status {self.status} without a word"


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer as it comes."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes] = field(repr=False)


class _Failure(msgspec.Struct):
    message: str


class _Versions(msgspec.Struct, rename="pascal"):
    api_version: str = UNKNOWN_VERSIONS.maximum
    min_api_version: str = msgspec.field(default=UNKNOWN_VERSIONS.minimum, name="MinAPIVersion")


class Engine:
    """A client of the engine's socket; a connection a call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._versions: ApiVersions | None = None
        self._asked_at = float("-inf")

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> AsyncGenerator[Stream, None]:
        """An answer whose end may never come; leaving the context ends it.  EngineDown when there is none."""
        connection = await connect(self.path)
        with contextlib.closing(connection):
            channel = Channel(connection, h11.CLIENT)
            try:
                await _send(channel, method, target, [*headers, ("Content-Length", str(len(body)))], body)
                head = await _head(channel)
            except (OSError, h11.RemoteProtocolError) as error:
                raise _broke_off(self.path, error) from error
            async with contextlib.aclosing(_chunks(channel, self.path)) as chunks:
                yield Stream(head.status_code, decoded(head.headers.raw_items()), chunks)

    async def fetch(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = TIMEOUT,  # noqa: ASYNC109 -- callers differ in patience, and EngineDown is what they expect
    ) -> Answer:
        """The whole answer, whatever its status.  EngineDown when none comes in time."""
        try:
            async with asyncio.timeout(timeout), self.stream(method, target, headers, body) as answer:
                return Answer(answer.status, answer.headers, await _whole(answer.chunks, target))
        except TimeoutError as error:
            raise errors.EngineDown(
                f"the container engine on {self.path} did not answer {method} {target.partition('?')[0]} "
                f"within {timeout:g} seconds"
            ) from error

    async def get_json(self, target: str) -> Any:
        """The decoded answer to a GET; EngineError with the engine's own text when it refuses."""
        answer = await self.fetch("GET", target)
        if answer.status != 200:
            raise errors.EngineError(answer.message)
        try:
            return msgspec.json.decode(answer.body)
        except UNREADABLE as error:
            raise errors.EngineError(f"the container engine answered {target} with no JSON: {error}") from error

    async def versions(self) -> ApiVersions:
        """The range the engine speaks now; while it does not answer, the last one known, or one every engine speaks."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= VERSION_AGE:
            self._asked_at = now
            with contextlib.suppress(errors.EngineError, msgspec.DecodeError):
                answer = await self.fetch("GET", "/version", timeout=VERSION_TIMEOUT)
                found = msgspec.json.decode(answer.body, type=_Versions)
                self._versions = ApiVersions(found.min_api_version, found.api_version)
        return self._versions or UNKNOWN_VERSIONS

    async def refusal(self, version: str) -> str | None:
        """Why a client of this API version cannot be served, in the engine's words; nothing is refused on a guess."""
        known = await self.versions()
        return known.refusal(version) if self._versions else None


async def _send(channel: Channel, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
    await channel.send(h11.Request(method=method, target=target, headers=encoded([("Host", "docker"), *headers])))
    if body:
        await channel.send(h11.Data(data=body))
    await channel.send(h11.EndOfMessage())


async def _head(channel: Channel) -> h11.Response:
    event = await channel.receive()
    while isinstance(event, h11.InformationalResponse):
        event = await channel.receive()
    if not isinstance(event, h11.Response):
        raise h11.RemoteProtocolError("it closed the connection")
    return event


async def _chunks(channel: Channel, path: Path) -> AsyncGenerator[bytes, None]:
    try:
        while isinstance(event := await channel.receive(), h11.Data):
            yield bytes(event.data)
    except h11.RemoteProtocolError as error:
        raise _broke_off(path, error) from error


async def _whole(chunks: AsyncIterator[bytes], target: str) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise errors.EngineError(f"the container engine's answer to {target} is larger than {ANSWER_LIMIT} bytes")
    return bytes(body)


def _broke_off(path: Path, error: Exception) -> errors.EngineDown:
    return errors.EngineDown(f"the container engine on {path} broke the connection off: {error}")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
