# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - every call of the protocol has a deadline
"""A store of one member that keeps nothing: for tests and simulation, with the semantics of the real one.

Batches pass through the codec as they would on Raft, so what cannot be written there cannot be written here.
"""

from __future__ import annotations

from collections.abc import Mapping

from covey.model.changes import Batch
from covey.model.errors import FailedPrecondition, NotLeader
from covey.state.apply import apply
from covey.state.codec import decode_batch, encode_batch
from covey.state.view import View
from covey.store.base import Leadership, Notifier, Waiter, require_fits


class MemoryStore:
    """The state in memory.  ``depose`` and ``elect`` play the part of an election, ``silence`` that of a lost link."""

    def __init__(self, node_id: str = "memory", address: str = "memory:2378", view: View | None = None) -> None:
        self._node_id = node_id
        self._view = view or View()
        self._index = self._view.index
        self._members = {node_id: address}
        self._silent: set[str] = set()
        self._leadership = Leadership()
        self._notifier = Notifier()
        self.elect()

    def elect(self) -> None:
        """Lead in a new term."""
        self._leadership = Leadership(self._leadership.term + 1, self._node_id, True)
        self._index += 1
        self._notifier.notify()

    def depose(self, leader: str | None = None) -> None:
        """Let another one lead in a new term."""
        self._leadership = Leadership(self._leadership.term + 1, leader, False)
        self._notifier.notify()

    def view(self) -> View:
        """The state."""
        return self._view

    def position(self) -> tuple[int, int]:
        """Term and index of the newest entry."""
        return self._leadership.term, self._index

    def leadership(self) -> Leadership:
        """Who leads."""
        return self._leadership

    def members(self) -> Mapping[str, str]:
        """The voters and their addresses."""
        return dict(self._members)

    def voters(self) -> Mapping[str, str]:
        """The same: nobody here comes twice."""
        return self.members()

    def reachable(self) -> frozenset[str]:
        """All but those that were silenced."""
        return frozenset(self._members.keys() - self._silent) if self._leadership.leading else frozenset()

    def silence(self, node_id: str) -> None:
        """Have that member not answer any more."""
        self._silent.add(node_id)
        self._notifier.notify()

    def trouble(self) -> str:
        """Never any."""
        return ""

    def changed(self) -> Waiter:
        """A new waiter."""
        return self._notifier.waiter()

    async def propose(self, batch: Batch, timeout: float) -> int:
        """Apply ``batch`` at once."""
        self._require_leadership()
        if batch.fence not in (0, self._leadership.term):
            raise NotLeader(None)
        command = encode_batch(batch)
        require_fits(command)
        self._index += 1
        self._view, outcome = apply(self._view, decode_batch(command), self._index)
        self._notifier.notify()
        if outcome.error is not None:
            raise outcome.error
        return outcome.index

    async def barrier(self, timeout: float) -> View:
        """The state, which is always the newest."""
        self._require_leadership()
        return self._view

    async def add_member(self, node_id: str, address: str, timeout: float) -> None:
        """Note a member; it gets a vote in name only."""
        self._require_leadership()
        self._members.setdefault(node_id, address)
        self._notifier.notify()

    async def remove_member(self, node_id: str, timeout: float) -> None:
        """Forget a member."""
        self._require_leadership()
        if node_id == self._node_id:
            if len(self._members) == 1:
                raise FailedPrecondition("this is the last manager; without it there is no cluster")
            self.depose()
            raise NotLeader(None)
        self._members.pop(node_id, None)
        self._notifier.notify()

    def _require_leadership(self) -> None:
        if not self._leadership.leading:
            raise NotLeader(self._leadership.leader)
