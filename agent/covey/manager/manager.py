# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager: its store, the sessions it serves, the certificates it signs, and what it runs only while it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from covey.api.bodies import AdmitRequest
from covey.api.http import Request, Response
from covey.control.dispatcher import Dispatcher
from covey.control.issuer import Issuer
from covey.control.loop import ControlLoop, Settle
from covey.control.roster import manager_at
from covey.control.signer import Signer, Wishes
from covey.manager.leadership import follow_leadership
from covey.manager.membership import Membership
from covey.model.admission import Admission
from covey.model.clock import Clock
from covey.model.errors import Unavailable
from covey.store.base import Store

#: Passes a control call to the manager at an address (``host:2377``) and brings back its answer.
Forward = Callable[[str, Request], Awaitable[Response]]


class Manager:
    """See ``covey.api.ports.Managing`` for what the API asks of it."""

    def __init__(self, store: Store, clock: Clock, settle: Settle, forward: Forward, issuer: Issuer) -> None:
        self.store, self.issuer = store, issuer
        self.dispatcher = Dispatcher(store, clock)
        self.signer = Signer(store, clock, issuer)
        self.membership = Membership(store, clock)
        self._clock, self._settle, self._forward = clock, settle, forward

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.run(), name="dispatcher")
            group.create_task(follow_leadership(self.store, self._lead), name="leadership")

    async def _lead(self, term: int) -> None:
        loop = ControlLoop(self.store, self._settle, self.dispatcher.heard, self._clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.run(term), name=f"control loop of term {term}")
            group.create_task(self.membership.reconcile(), name=f"membership of term {term}")

    async def admit(self, request: AdmitRequest) -> Admission:
        """Let in the holder of that request's key."""
        wishes = Wishes(
            role=request.role,
            hostname=request.hostname,
            labels=request.labels or {},
            availability=request.availability,
        )
        return await self.signer.admit(request.csr.encode(), wishes)

    async def forward(self, leader: str, request: Request) -> Response:
        """What the leader answers to the call."""
        manager = manager_at(self.store.view(), leader)
        if manager is None:
            raise Unavailable(f"the leader, node {leader}, has not said yet where it answers: try again in a moment")
        return await self._forward(manager.address, request)
