# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself without asking anybody.  Pure."""

from __future__ import annotations

import covey
from covey.api.ports import LocalState, NodeReport
from covey.daemon.places import Settings
from covey.daemon.ports import Member
from covey.security import lifetime
from covey.security.certificate import Peer


def outside() -> NodeReport:
    """A node that is in no cluster."""
    return NodeReport(LocalState.INACTIVE, covey.__version__)


def locked(peer: Peer, settings: Settings) -> NodeReport:
    """A manager whose disk waits for the unlock key: what its certificate and its settings say."""
    return NodeReport(
        state=LocalState.LOCKED,
        version=covey.__version__,
        node_id=peer.node_id,
        cluster_id=peer.cluster_id,
        role=peer.role,
        advertise_addr=settings.advertise,
    )


def member(running: Member, settings: Settings, now: float) -> NodeReport:
    """A node that is in a cluster; what keeps the managers from having it comes before its own troubles."""
    who = running.who
    late = lifetime.trouble(now, who)
    error = late or running.superseded or running.refusal
    settled = LocalState.ACTIVE if running.settled else LocalState.PENDING
    return NodeReport(
        state=LocalState.ERROR if error else settled,
        version=covey.__version__,
        node_id=who.node_id,
        cluster_id=who.cluster_id,
        role=who.role,
        advertise_addr=settings.advertise,
        managers=running.managers(),
        certificate=(who.not_before, who.not_after),
        error=error or running.trouble,
    )
