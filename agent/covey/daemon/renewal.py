# SPDX-License-Identifier: GPL-3.0-or-later
"""Renews this node's certificate in time, and at once when a manager asks for it; tries again until it is done.

When to renew is decided in ``security.lifetime``.  Never in it: how a certificate is got.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from covey.model.clock import Clock
from covey.model.errors import CoveyError
from covey.security import lifetime
from covey.security.identity import Identity

log = logging.getLogger(__name__)

#: The longest wait between two looks at the clock, which may be set under us, and at who this node is.
LOOK = 60.0


class Renewing(Protocol):
    """This node's life, as far as its certificate goes."""

    def identity(self) -> Identity | None:
        """Who this node is; None while it is in no cluster."""

    async def renew(self) -> None:
        """Get a new certificate and use it; a CoveyError or OSError says why not."""


class Renewals:
    """``run`` keeps the certificate fresh."""

    def __init__(self, life: Renewing, clock: Clock) -> None:
        self._life, self._clock = life, clock
        self._wanted = asyncio.Event()
        self._who: Identity | None = None
        self._dice = 0.0

    def want(self) -> None:
        """A manager asks for a new certificate now."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures, retry_at = 0, 0.0
        while True:
            await self._wait(retry_at)
            self._wanted.clear()
            try:
                await self._life.renew()
                failures, retry_at = 0, 0.0
            except (CoveyError, OSError) as error:
                failures += 1
                retry_at = self._clock.now() + self._pause(failures)
                self._wanted.set()
                log.warning("the certificate could not be renewed yet: %s", error)

    async def _wait(self, retry_at: float) -> None:
        """Return once there is a certificate to renew, but not before ``retry_at``."""
        while True:
            now = self._clock.now()
            due = max(self._due(), retry_at)
            if due <= now:
                return
            try:
                async with asyncio.timeout(min(LOOK, due - now)):
                    await (self._wanted.wait() if not self._wanted.is_set() else asyncio.Event().wait())
            except TimeoutError:
                continue

    def _due(self) -> float:
        """When to renew; the dice are thrown once for each certificate."""
        who = self._life.identity()
        if who is not self._who:
            self._who, self._dice = who, self._clock.random()
        if who is None:
            return float("inf")
        if self._wanted.is_set():
            return 0.0
        return lifetime.renew_at(who.not_before, who.not_after, self._dice)

    def _pause(self, failures: int) -> float:
        if self._who is None:
            return LOOK
        return lifetime.pause_after(failures, self._who.not_before, self._who.not_after, self._clock.random())
