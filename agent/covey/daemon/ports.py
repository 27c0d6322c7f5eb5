# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's life needs of the parts it is wired with.  Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from covey.api.ports import Managing
from covey.client.wire import JoinCall
from covey.model.admission import Admission, ManagerInfo
from covey.security.identity import Identity


class Member(Protocol):
    """The running parts of a node that is in a cluster."""

    @property
    def who(self) -> Identity: ...
    @property
    def superseded(self) -> str:
        """Why this manager has no part in its cluster any more; empty if it has."""

    @property
    def dismissed(self) -> bool:
        """Whether this manager's vote was taken away, so that its state is of no account any more."""

    @property
    def refusal(self) -> str:
        """Why the managers will have nothing to do with this node; empty if they do."""

    @property
    def settled(self) -> bool:
        """A manager has heard this node, and if it is a manager itself, it has its vote."""

    @property
    def trouble(self) -> str:
        """What keeps this node, as a manager, from taking part; empty if nothing does."""

    def managing(self) -> Managing | None: ...
    def turns(self) -> Mapping[str, int]:
        """How often each part with a thread of its own came round."""

    def managers(self) -> tuple[ManagerInfo, ...]: ...
    async def certify(self, csr: bytes) -> Admission:
        """A new certificate for this node, in the role it is due; Unavailable if no manager can say."""

    def turn_to(self, managers: Sequence[ManagerInfo]) -> None:
        """Try these managers, too, while none has taken this node up."""

    def renewed(self, who: Identity) -> None:
        """Go on with this certificate, without a gap; role and node are the same."""

    async def start(self) -> None: ...
    async def wait_settled(self) -> None: ...
    async def give_up_vote(self) -> None:
        """Have the other managers, if there are any, do without this one; returns soon, whatever came of it."""

    async def announce_restart(self, within: float) -> None:
        """Have the managers wait for this agent, which is about to restart, ``within`` seconds at most."""

    async def stop(self) -> None:
        """Stop the agent's parts; containers run on."""


class Outside(Protocol):
    """Calls to managers on behalf of a node that is not in their cluster yet."""

    async def join(self, addresses: Sequence[str], call: JoinCall) -> Admission: ...
