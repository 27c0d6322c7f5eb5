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

    async def trust(self, root: bytes) -> None:
        """Of the roots trusted so far, trust only this one; a CoveyError or OSError says why not."""


class Renewals:
    """``run`` keeps the certificate fresh."""

    def __init__(self, life: Renewing, clock: Clock) -> None:
        self._life, self._clock = life, clock
        self._stirred = asyncio.Event()
        self._wanted, self._root = False, b""
        self._failures, self._retry_at = 0, 0.0
        self._who: Identity | None = None
        self._dice = 0.0

    def want(self) -> None:
        """A new certificate is called for now, however often it could not be had before."""
        self._wanted = True
        self._failures, self._retry_at = 0, 0.0
        self._stirred.set()

    def trust(self, root: bytes) -> None:
        """A manager says that only this root counts from now on."""
        self._root = root
        self._stirred.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            try:
                await self._act()
                self._failures, self._retry_at = 0, self._clock.now() + LOOK
            except (CoveyError, OSError) as error:
                self._failures += 1
                self._retry_at = self._clock.now() + self._pause(self._failures)
                self._wanted = True
                log.warning("the certificate could not be renewed yet: %s", error)

    async def _act(self) -> None:
        root, self._root = self._root, b""
        if root:
            try:
                await self._life.trust(root)
            except (CoveyError, OSError) as error:
                log.warning("a new certificate will have to bring the new root: %s", error)
            else:
                return
        self._wanted = False
        await self._life.renew()

    async def _wait(self) -> None:
        """Return once there is something to do, but not too soon what was done or failed just now."""
        while True:
            self._stirred.clear()
            now = self._clock.now()
            due = self._due()
            if due <= now:
                return
            try:
                async with asyncio.timeout(min(LOOK, due - now)):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    def _due(self) -> float:
        """When to act; the dice are thrown once for each certificate."""
        who = self._life.identity()
        if who is not self._who:
            self._who, self._dice = who, self._clock.random()
        if who is None:
            return float("inf")
        if self._root:
            return 0.0
        return max(
            self._retry_at, 0.0 if self._wanted else lifetime.renew_at(who.not_before, who.not_after, self._dice)
        )

    def _pause(self, failures: int) -> float:
        if self._who is None:
            return LOOK
        return lifetime.pause_after(failures, self._who.not_before, self._who.not_after, self._clock.random())
