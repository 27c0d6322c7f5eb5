# SPDX-License-Identifier: GPL-3.0-or-later
"""This manager's vote: asks the others for it, notices if they took it away, and gives it up when the node leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from covey.client.managers import try_each
from covey.client.wire import RaftMembers
from covey.control.roster import epoch_of
from covey.model.errors import CoveyError, NotLeader
from covey.state.view import View
from covey.store.base import Leadership

log = logging.getLogger(__name__)

#: Seconds between two tries to get the vote.
RETRY = 1.0
#: Seconds between two looks at whether somebody leads.
LOOK = 3.0
#: Seconds that the others are given to let a manager go that leaves without being demoted first.
FAREWELL = 10.0


@dataclass(frozen=True, slots=True)
class Seat:
    """Who and where this manager is: its cluster server (host:2377) and its Raft (host:2378)."""

    node_id: str
    address: str
    raft_address: str


class VotingStore(Protocol):
    """This manager's store; see ``covey.store.raft.RaftStore``."""

    @property
    def votes(self) -> bool: ...
    def view(self) -> View: ...
    def leadership(self) -> Leadership: ...
    def members(self) -> Mapping[str, str]: ...
    def supersede(self, by: int) -> None: ...


class Group(Protocol):
    """The Raft group, where this manager leads it; see ``covey.manager.membership.Membership``."""

    async def join(self, node_id: str, raft_address: str, manager_address: str) -> Mapping[str, str]: ...
    async def leave(self, node_id: str) -> None: ...


class Others(Protocol):
    """Calls to another manager; see ``covey.client.managers.Managers``."""

    async def raft_members(self, address: str) -> RaftMembers: ...
    async def raft_join(self, address: str, own_address: str, raft_address: str) -> Mapping[str, str]: ...
    async def raft_leave(self, address: str) -> None: ...


class Vote:
    """The vote of one manager; ``known`` gives the other managers' addresses."""

    def __init__(
        self, store: VotingStore, group: Group, others: Others, seat: Seat, known: Callable[[], Sequence[str]]
    ) -> None:
        self._store, self._group, self._others, self._seat, self._known = store, group, others, seat, known

    async def get(self) -> None:
        """Ask until this manager is one of the voters, and the state says where it answers."""
        while not (self._store.votes and self._said() == self._seat.address):
            if not self._store.votes or self._said() is not None:
                await self._ask()
            await asyncio.sleep(RETRY)

    async def lost(self) -> None:
        """Return once the others have taken this manager's vote away; one that was away then is not told.

        Whoever leads is asked, while this manager knows of no leader: one whose vote is gone never will.
        """
        await self.get()
        while await self._counts():  # noqa: ASYNC110 - what the others know is no event here
            await asyncio.sleep(LOOK)

    async def _counts(self) -> bool:
        """Whether the others count on this manager's vote, as far as anybody says."""
        if self._store.leadership().leader is not None:
            return True
        try:
            told = await try_each(self._known(), self._others.raft_members)
        except CoveyError as error:
            log.debug("nobody says whether this manager votes: %s", error)
            return True
        if told.epoch == epoch_of(self._store.view()):
            return told.votes
        self._store.supersede(told.epoch)  # if it is the later one; what an earlier one says is of no account
        return True

    async def give_up(self) -> None:
        """Have the others do without this manager, as far as they can: it leaves whether they do or not."""
        if len(self._store.members()) < 2:
            return
        try:
            async with asyncio.timeout(FAREWELL):
                if self._store.leadership().leading:
                    with contextlib.suppress(NotLeader):
                        await self._group.leave(self._seat.node_id)
                await try_each(self._known(), self._others.raft_leave)
        except (CoveyError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.warning("this manager leaves, but the others still count on its vote: %s", reason)

    async def _ask(self) -> None:
        seat = self._seat
        try:
            if self._store.leadership().leading:
                await self._group.join(seat.node_id, seat.raft_address, seat.address)
            else:
                await try_each(
                    self._known(), lambda other: self._others.raft_join(other, seat.address, seat.raft_address)
                )
        except CoveyError as error:
            log.warning("no vote yet for this manager, or its address is not known yet: %s", error)

    def _said(self) -> str | None:
        """Where the others look for this manager, None until the state is here that says so."""
        node = self._store.view().nodes.get(self._seat.node_id)
        return None if node is None else node.manager_address
