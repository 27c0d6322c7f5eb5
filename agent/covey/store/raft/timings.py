# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast Raft beats, and pysyncobj's settings that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from pysyncobj.config import SyncObjConf

from covey.store.raft.wire import BATCH_BYTES


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds.  An election starts ``election_min`` to ``election_max`` after the leader was last heard."""

    election_min: float = 0.5
    election_max: float = 1.0
    heartbeat: float = 0.1
    leader_fallback: float = 1.5
    tick: float = 0.04


def configuration(timings: Timings) -> SyncObjConf:
    """Everything that pysyncobj must not do of its own accord is off."""
    return SyncObjConf(
        autoTick=False,
        pollerType="select",
        dynamicMembershipChange=True,
        appendEntriesUseBatch=True,
        appendEntriesBatchSizeBytes=BATCH_BYTES,
        commandsWaitLeader=False,
        raftMinTimeout=timings.election_min,
        raftMaxTimeout=timings.election_max,
        appendEntriesPeriod=timings.heartbeat,
        leaderFallbackTimeout=timings.leader_fallback,
        connectionTimeout=max(3.5, timings.election_max),
    )
