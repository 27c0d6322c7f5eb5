# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's loop: take the view, plan, propose, wait for a change or for the time the plan named.

Nothing else on the leader owns a timer for the state's sake.  It remembers nothing between rounds but what is under
way.  Never in it: any decision; those are the planners'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from covey.control.roster import heartbeat_period
from covey.model.changes import Batch, Change
from covey.model.clock import Clock
from covey.model.errors import Conflict, CoveyError, NotFound, NotLeader, Unavailable
from covey.plan.base import NewId, Plan, earliest
from covey.plan.liveness import liveness
from covey.state.view import View
from covey.store.base import Store, Waiter

#: All planners at once, as ``covey.plan.pipeline.settle``.
Settle = Callable[[View, float, NewId], Plan]
#: When each node's last sign of life came.
Heard = Callable[[], Mapping[str, float]]

WRITE_TIMEOUT = 5.0
UNCONFIRMED_PAUSE = 0.1
#: A burst of events is planned once.
DEBOUNCE = 0.005
#: The longest wait: a clock set forward under us may delay a due wake-up by this much.
LONGEST_WAIT = 30.0
#: Pauses after plans refused in a row; the first refusal is an ordinary race and is planned again at once.
BACKOFF = (0.0, 0.0, 0.02, 0.1, 0.5, 2.0)

log = logging.getLogger(__name__)


class ControlLoop:
    """Plans for as long as this manager leads in one term."""

    def __init__(self, store: Store, settle: Settle, heard: Heard, clock: Clock) -> None:
        self._store, self._settle, self._heard, self._clock = store, settle, heard, clock

    async def run(self, term: int) -> None:
        """Until the leadership of ``term`` is gone, or cancelled.

        Begins with an empty batch of this term: from then on nothing that an earlier leader decided is accepted.
        """
        since, period = self._clock.now(), heartbeat_period(self._store.view())
        waiter = self._store.changed()
        refused = 0
        await self._propose(term, ())
        await waiter.wait()
        while self._leads(term):
            if (wanted := heartbeat_period(self._store.view())) != period:
                since, period = self._clock.now(), wanted
            plan = self._plan(since)
            if plan.changes and not await self._propose(term, plan.changes):
                refused += 1
                await asyncio.sleep(BACKOFF[min(refused, len(BACKOFF)) - 1])
                continue
            refused = 0
            await self._wait(waiter, plan.wake_at)

    def _leads(self, term: int) -> bool:
        leadership = self._store.leadership()
        return leadership.leading and leadership.term == term

    def _plan(self, since: float) -> Plan:
        """Liveness comes first, alone if it wants something: the others act on what it found."""
        view, now = self._store.view(), self._clock.now()
        alive = liveness(view, self._heard(), heartbeat_period(view), since, now)
        if alive.changes:
            return alive
        plan = self._settle(view, now, self._clock.new_id)
        return Plan(plan.changes, earliest(plan.wake_at, alive.wake_at))

    async def _propose(self, term: int, changes: tuple[Change, ...]) -> bool:
        """Write it, however often it takes to learn what became of it; False if the state refused it.

        A batch whose fate is unknown is repeated under its own request id: a new plan beside it might do things twice.
        """
        batch = Batch(self._clock.new_id(), self._clock.now(), changes, fence=term)
        while self._leads(term):
            try:
                await self._store.propose(batch, WRITE_TIMEOUT)
            except (Conflict, NotFound) as refusal:
                log.debug("a plan was overtaken: %s", refusal)
                return False
            except NotLeader:
                return False
            except Unavailable as error:
                log.warning("a plan of %d changes is not confirmed yet, it is tried again: %s", len(changes), error)
                await asyncio.sleep(UNCONFIRMED_PAUSE)
                continue
            except CoveyError:
                log.exception("the state refused a plan; planning again")
                return False
            return True
        return False

    async def _wait(self, waiter: Waiter, wake_at: float | None) -> None:
        """Return soon after a change, at ``wake_at``, or after the longest wait, whichever comes first."""
        seconds = LONGEST_WAIT if wake_at is None else min(LONGEST_WAIT, wake_at - self._clock.now())
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await waiter.wait()
        except TimeoutError:
            return
        await asyncio.sleep(DEBOUNCE)
