# SPDX-License-Identifier: GPL-3.0-or-later
"""A value that no log, traceback or repr may show."""

from __future__ import annotations

import hmac


class Secret:
    """Bytes that hide themselves; ``reveal`` is the only way to them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves; keep them out of names that a traceback would print."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)
