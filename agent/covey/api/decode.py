# SPDX-License-Identifier: GPL-3.0-or-later
"""From a request's body to the model: strict, with every refusal's path, yet taking what the peer's clients send.

Field names match in any case, as with the peer (docker-py writes ``replicated``).  Null means not sent, and so does an
empty word where one of a few is expected.  Never in it: rules that need the state.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from covey.model.codec import UNREADABLE
from covey.model.errors import InvalidArgument, Unsupported
from covey.model.secret import Secret
from covey.model.spec import ServiceSpec, Spec, refusals, without_later

T = TypeVar("T", bound=msgspec.Struct)

#: Parts of a service's spec that belong to objects this release does not have.
OTHER_OBJECTS = re.compile(r"(^|\.)Networks$")
HINTS = {
    "Driver": "the managers hold the values; there are no drivers that fetch them from elsewhere",
    "Networks": "overlay networks are not built yet; publish ports in host mode",
    "ReplicatedJob": "jobs are not built yet; use Replicated or Global",
    "GlobalJob": "jobs are not built yet; use Replicated or Global",
    "FailureAction": "only pause, the default, is possible yet",
    "Order": "only stop-first, the default, is possible yet",
    "Mode": "only vip, the default, is possible yet",
}
LONGEST_VALUE = 80
_AT = re.compile(r"(?P<what>.*) - at `(?P<path>.*)`", re.DOTALL)


def parse(body: bytes, what: str) -> Any:
    """The JSON of a body; ``what`` names what it should hold."""
    if not body.strip():
        raise InvalidArgument(f"the request has no body; a JSON object with a {what} is expected")
    try:
        return msgspec.json.decode(body)
    except UNREADABLE as error:
        raise InvalidArgument(f"the request's body is not JSON: {error}") from error


def body_as(kind: type[T], body: bytes) -> T:
    """A body as that struct."""
    return decode(kind, parse(body, kind.__name__))


def service_spec(value: object, path: str = "") -> ServiceSpec:
    """Raw JSON as a service's spec."""
    if isinstance(value, dict):
        _one_mode(value)
    return decode(ServiceSpec, value, path)


def decode(kind: type[T], value: object, path: str = "") -> T:
    """Raw JSON as a ``kind``; InvalidArgument names every unknown field, Unsupported or it every field not built."""
    if not isinstance(value, dict):
        found = "null" if value is None else type(value).__name__
        raise InvalidArgument(f"a JSON object with a {kind.__name__} is expected, not a {found}", path)
    problems: list[str] = []
    value = canonical(kind, value, path, problems)
    if problems:
        raise InvalidArgument("; ".join(problems))
    if issubclass(kind, Spec):
        _refuse(list(refusals(kind, value, path)))
        value = without_later(kind, value)
    try:
        return msgspec.convert(value, kind, dec_hook=_from_json)
    except msgspec.ValidationError as error:
        raise _located(kind, str(error), path) from error


def canonical(kind: type[msgspec.Struct], value: Any, path: str, problems: list[str]) -> Any:
    """``value`` with its fields' declared names and without nulls; what is not a field goes to ``problems``."""
    if not isinstance(value, dict):
        return value
    fields = _fields(kind)
    names = {name.lower(): name for name in (*fields, *getattr(kind, "LATER", ()))}
    result = {}
    for sent, content in value.items():
        name = names.get(sent.lower())
        where = f"{path}.{name or sent}" if path else name or sent
        if name is None:
            problems.append(_unknown(where, sent, list(names.values())))
        elif content is not None and not (content == "" and name in fields and fields[name].is_choice):
            below = fields[name].struct if name in fields else None
            result[name] = _inside(below, content, where, problems)
    return result


def _inside(below: type[msgspec.Struct] | None, content: Any, path: str, problems: list[str]) -> Any:
    if below is None:
        return content
    if isinstance(content, list):
        return [canonical(below, item, f"{path}[{number}]", problems) for number, item in enumerate(content)]
    return canonical(below, content, path, problems)


@dataclass(frozen=True, slots=True)
class _Field:
    """The struct that a field holds, if any; ``is_choice``: one of a few words, of which "" stands for none."""

    struct: type[msgspec.Struct] | None
    is_choice: bool


@lru_cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    return {
        item.encode_name: _Field(_struct_in(item.type), bool(list(_members(item.type))))
        for item in msgspec.structs.fields(kind)
    }


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    """The struct inside ``X | None``, ``list[X] | None`` or ``tuple[X, ...]``; none inside a map."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    if get_origin(annotation) is dict:
        return None
    return next(filter(None, map(_struct_in, get_args(annotation))), None)


def _unknown(where: str, name: str, known: list[str]) -> str:
    by_key = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_key, n=1)
    hint = f"did you mean {by_key[close[0]]}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"
    return f"unknown field `{where}`; {hint}"


def _one_mode(value: dict[str, Any]) -> None:
    mode = next((content for name, content in value.items() if name.lower() == "mode"), None)
    if isinstance(mode, dict) and sum(content is not None for content in mode.values()) > 1:
        raise InvalidArgument("must specify only one service mode", "Mode")


def _refuse(found: list[tuple[str, object]]) -> None:
    if not found:
        return
    text = "; ".join(_refusal(path, value) for path, value in found)
    if any(OTHER_OBJECTS.search(path) for path, _ in found):
        raise Unsupported(text)
    raise InvalidArgument(text)


def _refusal(path: str, value: object) -> str:
    hint = HINTS.get(path.rpartition(".")[2], "this release does not act on the field; leave it out")
    return f"{path}: {_shown(value)} is not supported: {hint}"


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _from_json(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value.encode())
    raise ValueError(f"a {kind.__name__} cannot be made of a {type(value).__name__}")


def _located(kind: type[msgspec.Struct], text: str, prefix: str) -> InvalidArgument:
    """msgspec's complaint with the path as the user writes it, and with the choices where there are some."""
    match = _AT.fullmatch(text)
    if match is None:
        return InvalidArgument(text, prefix)
    steps = match["path"].removeprefix("$").removeprefix(".")
    choices = ", ".join(_choices(kind, re.sub(r"\[.*?\]", "", steps).split(".")))
    what = match["what"] + (f"; it is one of {choices}" if choices else "")
    return InvalidArgument(what, ".".join(filter(None, (prefix, steps))))


def _choices(kind: type[msgspec.Struct], steps: list[str]) -> Iterator[str]:
    annotation: object = kind
    for step in steps:
        struct = _struct_in(annotation)
        names = {item.encode_name: item.name for item in msgspec.structs.fields(struct)} if struct else {}
        if struct is None or step not in names:
            return
        annotation = get_type_hints(struct)[names[step]]
    yield from _members(annotation)


def _members(annotation: object) -> Iterator[str]:
    """The words of the enumeration in ``X`` or ``X | None``."""
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, Enum):
            yield from (str(member.value) for member in option)
