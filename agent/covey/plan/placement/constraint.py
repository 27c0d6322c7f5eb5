# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement constraints: ``key==value`` or ``key!=value`` about a node, all of which must hold.

Values are compared whole and without regard to case; a label that a node lacks counts as empty.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from covey.model.errors import InvalidArgument
from covey.model.objects import Node
from covey.model.spec import Placement, TaskSpec

_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
_OPERATOR = re.compile(r"==|!=")
_PREFIXES = ("node.labels.", "engine.labels.")

#: What engines call a machine, and what images call it.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_FIELDS: dict[str, Callable[[Node], str]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.description.hostname,
    "node.ip": lambda node: node.status.address,
    "node.role": lambda node: node.role,
    "node.platform.os": lambda node: node.description.os,
    "node.platform.arch": lambda node: architecture(node.description.architecture),
}
KEYS = (*_FIELDS, *(prefix + "NAME" for prefix in _PREFIXES))


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition on a node."""

    key: str
    equal: bool
    value: str

    def __str__(self) -> str:
        return f"{self.key}{'==' if self.equal else '!='}{self.value}"

    def holds(self, node: Node) -> bool:
        """``node`` meets it."""
        return self._matches(_fact(node, self.key)) is self.equal

    def _matches(self, fact: str) -> bool:
        if self.key == "node.ip":
            return _same_address(fact, self.value)
        if self.key == "node.platform.arch":
            return fact == architecture(self.value)
        return fact.casefold() == self.value.casefold()


def parse(text: str, path: str = "") -> Constraint:
    """The constraint of ``text``; InvalidArgument says at which position what was expected."""
    operator = _OPERATOR.search(text)
    if operator is None:
        position = _after_key(text)
        raise _error(text, path, position, "constraint expected one operator from ==, !=")
    key, value = text[: operator.start()].strip(), text[operator.end() :].strip()
    if not _KEY.fullmatch(key):
        begin = text.index(key) if key else 0
        match = _KEY.match(key)
        raise _error(text, path, begin + (match.end() if match else 0), "constraint expected a key, such as node.role")
    begin = text.index(value, operator.end()) if value else len(text)
    match = _VALUE.match(value)
    if not value or match is None or match.end() != len(value):
        raise _error(text, path, begin + (match.end() if match else 0), "constraint expected a value to compare with")
    known = _known(key)
    if known is None:
        expected = f"constraint expected one of the keys {', '.join(KEYS)}"
        raise _error(text, path, text.index(key), expected)
    return Constraint(known, operator.group() == "==", value)


def _after_key(text: str) -> int:
    """Where the operator should stand."""
    start = len(text) - len(text.lstrip())
    match = _KEY.match(text, start)
    return match.end() if match else start


def _known(key: str) -> str | None:
    """``key`` as it is looked up: known words in lower case, the label's own name untouched."""
    lowered = key.lower()
    if lowered in _FIELDS:
        return lowered
    prefix = next((prefix for prefix in _PREFIXES if lowered.startswith(prefix) and len(key) > len(prefix)), None)
    return prefix + key[len(prefix) :] if prefix else None


def _error(text: str, path: str, position: int, expected: str) -> InvalidArgument:
    found = f"{text[position:]!r}" if text[position:] else "the end"
    return InvalidArgument(f"{expected}; at position {position} of {text!r} stands {found}", path)


def _fact(node: Node, key: str) -> str:
    if key in _FIELDS:
        return _FIELDS[key](node)
    kind, _, name = key.split(".", 2)
    labels = node.spec.labels if kind == "node" else node.description.engine.labels
    return (labels or {}).get(name, "")


def _same_address(fact: str, value: str) -> bool:
    """The address is the value, or in the network that the value is."""
    try:
        return ipaddress.ip_address(fact) in ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False


def architecture(name: str) -> str:
    """``name`` as images spell it."""
    return _ARCHITECTURES.get(name.lower(), name.lower())


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Constraint | None:
    try:
        return parse(text)
    except InvalidArgument:
        return None


def broken(placement: Placement | None, node: Node) -> str:
    """The first constraint that ``node`` does not meet, empty if it meets all.

    One that does not parse is met by no node: it was refused when it was declared, so only another release wrote it.
    """
    for text in (placement.constraints if placement else None) or ():
        constraint = _parsed(text)
        if constraint is None or not constraint.holds(node):
            return str(constraint or text)
    return ""


def runs_on(placement: Placement | None, node: Node) -> bool:
    """``node`` is one of the platforms asked for; an empty architecture or system stands for any."""
    platforms = (placement.platforms if placement else None) or ()
    own = architecture(node.description.architecture), node.description.os.lower()
    wanted = ((architecture(each.architecture or ""), (each.os or "").lower()) for each in platforms)
    return not platforms or any(all(a in ("", b) for a, b in zip(each, own, strict=True)) for each in wanted)


def fits(spec: TaskSpec, node: Node) -> bool:
    """``node`` is of the kind that the spec asks for, whether or not it has room now."""
    return not broken(spec.placement, node) and runs_on(spec.placement, node)
