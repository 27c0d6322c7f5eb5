# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol through which shells learn the time and get ids; the real one lives in the daemon."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time, dice and ids, as seen by shells.  Pure rooms get the values instead."""

    def now(self) -> float:
        """Unix seconds."""

    def new_id(self) -> str:
        """A 25-character base36 id of 128 random bits, never used before."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def secret(self, size: int) -> bytes:
        """Bytes fit for keys and tokens."""
