# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager follows the leadership: while it leads, and only then, it runs what a leader runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from covey.store.base import Store

log = logging.getLogger(__name__)

#: What a leader runs, for the term it leads in; cancelled when it no longer does.
Lead = Callable[[int], Awaitable[None]]


async def follow_leadership(store: Store, lead: Lead) -> None:
    """Until cancelled: run ``lead(term)`` for as long as this manager leads in that term.

    ``lead`` may end by itself only because the leadership is gone; if it raises, so does this, and the agent restarts.
    """
    waiter = store.changed()
    reign: asyncio.Task[None] | None = None
    term = 0
    try:
        while True:
            await _first_of(waiter.wait(), reign)
            if reign is not None and reign.done():
                reign.result()
                reign = None
            now = store.leadership()
            if reign is not None and not (now.leading and now.term == term):
                log.info("no longer the leader of term %d", term)
                await _end(reign)
                reign = None
            if reign is None and now.leading:
                term = now.term
                log.info("leading in term %d", term)
                reign = asyncio.create_task(_run(lead, term), name=f"lead term {term}")
    finally:
        if reign is not None:
            await _end(reign)


async def _run(lead: Lead, term: int) -> None:
    await lead(term)


async def _first_of(change: Awaitable[None], reign: asyncio.Task[None] | None) -> None:
    """Return when either comes to an end."""
    waiting = asyncio.ensure_future(change)
    try:
        await asyncio.wait({waiting, reign} if reign else {waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()  # type: ignore[misc] # narrowed one line up
