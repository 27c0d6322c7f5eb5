# SPDX-License-Identifier: GPL-3.0-or-later
"""Who votes: lets managers in, takes votes away from nodes that are to be workers or are gone.  Leader only.

The wish is in the store (``NodeSpec.role``, or the node's absence), the fact in its members; ``reconcile`` moves
the fact to the wish one member at a time and may be interrupted anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from covey.model.changes import Batch, Update
from covey.model.clock import Clock
from covey.model.errors import Conflict, FailedPrecondition, Forbidden, NotFound, NotLeader, Unavailable
from covey.model.objects import Node
from covey.model.spec import Role
from covey.state.formats import require_reader
from covey.store.base import Store

CHANGE_TIMEOUT = 10.0
WRITE_TIMEOUT = 5.0
#: How long to wait before a removal that was refused (no majority without it) is tried again.
RETRY = 2.0

log = logging.getLogger(__name__)


class Membership:
    """The Raft group as the leader sees it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        #: Held from a look at the state to the end of the write that follows from it.
        self._writing = asyncio.Lock()

    async def join(self, node_id: str, raft_address: str, manager_address: str) -> Mapping[str, str]:
        """Give that manager its vote; the voters' Raft ids and addresses afterwards.

        ``manager_address`` is where its cluster server answers.  A repeat changes nothing.
        """
        node = self._store.view().nodes.get(node_id)
        if node is None or node.spec.role is not Role.MANAGER:
            raise Forbidden(f"node {node_id} is not to be a manager: promote it first")
        require_reader(self._store.view(), node)
        await self._store.add_member(node_id, raft_address, CHANGE_TIMEOUT)
        await self._write(node_id, lambda _: manager_address)
        return self._store.voters()

    async def leave(self, node_id: str) -> None:
        """Take the vote of that manager away."""
        await self._store.remove_member(node_id, CHANGE_TIMEOUT)
        await self._forget(node_id)

    def surplus(self) -> list[str]:
        """Members that should not be any more, this leader last so that it hands over only once."""
        view, me = self._store.view(), self._store.leadership().leader
        unwanted = [m for m in self._store.members() if not _wanted(view.nodes.get(m))]
        return sorted(unwanted, key=lambda member: (member == me, member))

    def _left_over(self) -> list[str]:
        """Nodes that the state takes for managers although their vote is gone: a leader was stopped in between."""
        members = self._store.members()
        return [
            node.id for node in self._store.view().nodes.values() if node.manager_address and node.id not in members
        ]

    async def reconcile(self) -> None:
        """Until cancelled: remove surplus members whenever there are any."""
        waiter = self._store.changed()
        while True:
            await waiter.wait()
            steps = [(self._forget, node_id) for node_id in self._left_over()]
            steps += [(self.leave, node_id) for node_id in self.surplus()]
            for step, node_id in steps:
                try:
                    await step(node_id)
                except NotLeader:
                    return
                except (FailedPrecondition, Unavailable, Conflict) as refusal:
                    log.warning("manager %s keeps its vote for now: %s", node_id, refusal)
                    await asyncio.sleep(RETRY)

    async def _forget(self, node_id: str) -> None:
        """Have the state say that it is no manager, unless it votes: it may have been promoted again meanwhile.

        A manager that is told so by the state begins anew, so this must never be said of a voter.
        """
        await self._write(node_id, lambda node: node.manager_address if node.id in self._store.members() else "")

    async def _write(self, node_id: str, address: Callable[[Node], str]) -> None:
        async with self._writing:
            while True:
                node = self._store.view().nodes.get(node_id)
                if node is None or node.manager_address == (wanted := address(node)):
                    return
                changed = msgspec.structs.replace(node, manager_address=wanted)
                batch = Batch(self._clock.new_id(), self._clock.now(), (Update(changed),))
                try:
                    await self._store.propose(batch, WRITE_TIMEOUT)
                except (Conflict, NotFound):
                    continue  # somebody else changed or removed the node meanwhile: read it again


def _wanted(node: Node | None) -> bool:
    return node is not None and node.spec.role is Role.MANAGER
