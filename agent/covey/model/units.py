# SPDX-License-Identifier: GPL-3.0-or-later
"""Units on the wire: durations are integer nanoseconds, memory bytes, CPUs billionths of one."""

from __future__ import annotations

from datetime import UTC, datetime

NANOSECOND = 1
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MIB = 1 << 20
NANO_CPUS = 1_000_000_000


def seconds(nanoseconds: int) -> float:
    """A duration of the wire in seconds."""
    return nanoseconds / SECOND


def rfc3339(unix_seconds: float) -> str:
    """A point in time as clients expect it, in UTC with microseconds; 0 is the zero time of Go."""
    if not unix_seconds:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def human_bytes(count: int) -> str:
    """``count`` bytes for a person: ``512 MiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"
