# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - every call of the protocol has a deadline
"""What the rest of the house may ask of a store; never anything of how it replicates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from covey.model.changes import Batch
from covey.model.errors import InvalidArgument
from covey.state.view import View


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads in ``term``.

    ``leading`` holds only once our own first entry of the term is applied: from then on the view is as new as any.
    """

    term: int = 0
    leader: str | None = None
    leading: bool = False


#: Bytes of one command, as it is written.
MAX_COMMAND = 2 << 20


def require_fits(command: bytes) -> None:
    """InvalidArgument for a command that is larger than a store takes."""
    if len(command) > MAX_COMMAND:
        raise InvalidArgument(f"one change of {len(command)} bytes; at most {MAX_COMMAND} fit into one")


class Waiter:
    """Level-triggered: ``wait`` returns at once if anything changed since it last returned."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._seen = -1

    async def wait(self) -> None:
        """Return when the view or the leadership is another than when this last returned."""
        while self._seen == self._notifier.version:
            await self._notifier.turn()
        self._seen = self._notifier.version


class Notifier:
    """Wakes waiters; lives on one event loop."""

    def __init__(self) -> None:
        self.version = 0
        self._turn: asyncio.Event = asyncio.Event()

    def notify(self) -> None:
        """Wake every waiter."""
        self.version += 1
        self._turn.set()
        self._turn = asyncio.Event()

    async def turn(self) -> None:
        """Return at the next ``notify``."""
        await self._turn.wait()

    def waiter(self) -> Waiter:
        """A waiter whose first ``wait`` returns at once."""
        return Waiter(self)


class Store(Protocol):
    """The replicated state, as one manager sees it."""

    def view(self) -> View:
        """The newest state applied here; on a follower it may be behind."""

    def position(self) -> tuple[int, int]:
        """Term and index of the newest entry here, applied or not.

        Of managers that lost their majority, the one with the greatest has everything that was acknowledged to them.
        """

    def leadership(self) -> Leadership:
        """Who leads, as far as this manager knows."""

    async def propose(self, batch: Batch, timeout: float) -> int:
        """Write ``batch`` and return its log index once it is applied here.

        Raises FailedPrecondition (a manager is of a release that could not read it), Conflict and its kin, NotLeader:
        nothing has changed; and Unavailable: it may still take effect, repeat it with the same request id.
        """

    async def barrier(self, timeout: float) -> View:
        """A view at least as new as every write acknowledged before the call; raises NotLeader, Unavailable."""

    def trouble(self) -> str:
        """What keeps this manager from taking part although it runs, for a person; empty if nothing does."""

    def changed(self) -> Waiter:
        """A new waiter for changes of the view or the leadership."""

    async def add_member(self, node_id: str, address: str, timeout: float) -> None:
        """Make the node a voter, after trying that it answers at ``address``; only the leader can.

        Raises FailedPrecondition where that would cost the cluster its majority.  A repeat changes nothing.
        """

    async def remove_member(self, node_id: str, timeout: float) -> None:
        """Take the node's vote away; only the leader can, and never from itself: it hands over and raises NotLeader.

        Raises FailedPrecondition where that would cost the cluster its majority.  A repeat changes nothing.
        """

    def members(self) -> Mapping[str, str]:
        """The nodes that vote and their Raft addresses (host:port)."""

    def voters(self) -> Mapping[str, str]:
        """The same by Raft id, which is another one each time a node becomes a manager; for who is to join them."""

    def reachable(self) -> frozenset[str]:
        """The nodes among the members that answer this leader now, itself included; of a follower none."""
