# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds systemd's watchdog as long as this agent gets on: its main loop and, on a manager, its Raft thread.

The feeder is a task of the main loop, so that one is proven by feeding at all; every other part shows how often it
came round.  Not fed for its period, systemd ends the process (SIGABRT, which has every thread's place written to the
journal) and starts it anew; containers are not part of the agent and run on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

#: Looks in one period of the watchdog.
LOOKS = 4

#: How often each part came round so far.
Turns = Mapping[str, int]


def stuck(before: Turns, now: Turns) -> list[str]:
    """The parts that have not come round since ``before``; one that was not there then is given until the next look."""
    return sorted(part for part, turns in now.items() if before.get(part) == turns)


async def feed(period: float, turns: Callable[[], Turns], fed: Callable[[], None]) -> None:
    """Call ``fed`` several times each ``period`` seconds while nothing is stuck; forever."""
    before: Turns = {}
    silent: list[str] = []
    while True:
        now = turns()
        waiting = stuck(before, now)
        if not waiting:
            fed()
        elif waiting != silent:
            log.error(
                "the agent's %s does not come round any more; in %g s systemd starts the agent anew",
                " and ".join(waiting),
                period,
            )
        before, silent = now, waiting
        await asyncio.sleep(period / LOOKS)
