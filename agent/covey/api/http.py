# SPDX-License-Identifier: GPL-3.0-or-later
"""What a handler of the control API takes and gives: requests, responses, multi-valued maps. Values only.

Never in it: sockets, parsers, routes, what any path means, how an error becomes a status.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self
from urllib.parse import parse_qsl, quote

import msgspec

FALSE_WORDS = frozenset({"", "0", "no", "false", "none"})
JSON_TYPE = "application/json"


class MultiMap:
    """An immutable ordered map in which a name may have several values; looked up by exact name."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)

    @staticmethod
    def fold(name: str) -> str:
        return name

    def get(self, name: str, default: str = "") -> str:
        """The first value of `name`."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> tuple[str, ...]:
        wanted = self.fold(name)
        return tuple(value for key, value in self._pairs if self.fold(key) == wanted)

    def flag(self, name: str) -> bool:
        """True as the engine reads a boolean: anything but absent, empty, 0, no, false, none."""
        return self.get(name).strip().lower() not in FALSE_WORDS

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._pairs

    def replaced(self, name: str, *values: str) -> Self:
        """The same map with exactly these values under `name`; none removes it."""
        wanted = self.fold(name)
        kept = [(key, value) for key, value in self._pairs if self.fold(key) != wanted]
        return type(self)([*kept, *((name, value) for value in values)])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for key, _ in self._pairs))

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, MultiMap) and other._pairs == self._pairs

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"  # names only: values hold credentials (X-Registry-Auth)


class Query(MultiMap):
    """The query string: decoded, names as sent."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(parse_qsl(text, keep_blank_values=True))

    def encode(self) -> str:
        return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.items())


class Headers(MultiMap):
    """Header fields; names match in any case."""

    @staticmethod
    def fold(name: str) -> str:
        return name.lower()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is at the other end of a unix socket, as the kernel says."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the control API.

    `path` is percent-decoded and without its version prefix: `/v1.41/services/web` is path `/services/web` and
    api_version `1.41` (None when the client named none). `target` is what the client sent, query included.
    """

    method: str
    path: str
    api_version: str | None = None
    query: Query = field(default_factory=Query)
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    credentials: Credentials | None = None
    target: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. Bytes are sent with their length, an iterator chunk by chunk until it ends.

    An iterator is closed (`aclose`) when the client goes away first. The front adds framing headers itself and
    leaves the body out for HEAD.
    """

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes | AsyncIterator[bytes] = field(default=b"", repr=False)

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Self:
        """Any value that msgspec encodes, structs and raw JSON included."""
        return cls(status, Headers([("Content-Type", JSON_TYPE), *headers]), msgspec.json.encode(value) + b"\n")

    @classmethod
    def error(cls, status: int, message: str) -> Self:
        """The one shape of a failure that every client of the Docker API reads."""
        return cls.json({"message": message}, status)


class Handler(Protocol):
    """Answers the calls that are ours; every other goes to the local engine."""

    def owns(self, method: str, path: str) -> bool:
        """Whether `handle` answers this call; `path` as in Request. HEAD is asked as HEAD."""
        ...

    def body_limit(self, method: str, path: str) -> int:
        """The most bytes of body that `handle` takes of this call; more is refused unread."""
        ...

    async def handle(self, request: Request) -> Response:
        """The answer. An exception that escapes is turned into a response by the front's `explain`."""
        ...


@dataclass(frozen=True, slots=True)
class Proxied:
    """The head of an answer of the engine that is about to be passed on."""

    method: str
    path: str
    status: int
    headers: Headers


HeaderHook = Callable[[Proxied], Headers]
"""Gives the headers to send in place of the engine's own. Framing headers are not among them and are not taken."""
