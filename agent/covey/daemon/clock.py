# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that reads the clock, rolls dice and makes ids."""

from __future__ import annotations

import random
import secrets
import time

from covey.model.ids import to_id


class SystemClock:
    """The real ``Clock`` of covey.model.clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def new_id(self) -> str:
        """25 characters of base36 from 128 random bits."""
        return to_id(secrets.randbits(128))

    def random(self) -> float:
        """In [0, 1), for jitter; not for secrets."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing

    def secret(self, size: int) -> bytes:
        """Bytes fit for keys and tokens."""
        return secrets.token_bytes(size)
