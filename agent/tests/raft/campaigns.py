# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns: kinds of clusters and of bad luck, each with as many schedules as there are seeds.

A schedule that breaks a promise is told as its story: the fewest of its faults that still break it.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import covey.store.raft.core as core
import covey.store.raft.snapshot as snapshot
from covey.store.raft.compaction import Policy
from tests.raft.faults import EVERYTHING, Fate, plan
from tests.raft.oracle import Violation
from tests.raft.simulation import SMALL_TAIL, Simulation

SHM = Path("/dev/shm")
NO_COMPACTION = Policy()


@dataclass(frozen=True)
class Campaign:
    """``batch`` and ``frame`` are what leaves in one message and stands in one frame of a snapshot, in bytes."""

    size: int = 3
    seconds: float = 12.0
    each_second: float = 1.2
    policy: Policy = SMALL_TAIL
    batch: int = core.BATCH_BYTES
    frame: int = 2000
    rate: float = 6.0
    ballast: tuple[int, ...] = (0,)
    weights: dict[str, int] = field(default_factory=lambda: EVERYTHING)


def only(*kinds):
    """Those faults, as often as in everything."""
    return {kind: EVERYTHING[kind] for kind in kinds}


CAMPAIGNS = {
    "three": Campaign(),
    "five": Campaign(size=5),
    "three-without-compaction": Campaign(policy=NO_COMPACTION, batch=300),
    "five-without-compaction": Campaign(size=5, policy=NO_COMPACTION, batch=300),
    "big-entries": Campaign(batch=100_000, frame=50_000, ballast=(0, 1000, 40_000), rate=3.0),
    "power": Campaign(weights=only("power", "blackout", "start", "kill", "snapshot", "rekey"), each_second=2.0),
    "links": Campaign(
        size=5, weights=only("cut", "part", "deaf", "mute", "split", "reset", "stall", "freeze"), each_second=2.0
    ),
    "membership": Campaign(
        weights=only("kill", "power", "cut", "part", "freeze", "transfer") | {"join": 4, "leave": 4}, each_second=1.5
    ),
    "crowd": Campaign(weights=only("cut", "part", "stall", "transfer") | {"join": 5, "leave": 5}, each_second=4.0),
}


@contextlib.contextmanager
def _world(name, seed):
    """A simulation whose messages, frames and files are small enough that there are many of them."""
    campaign, where = CAMPAIGNS[name], SHM if SHM.is_dir() else None
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=where) as directory:
        patch.setattr(core, "BATCH_BYTES", campaign.batch)
        patch.setattr(snapshot, "_FRAME_BYTES", campaign.frame)
        sim = Simulation(
            Path(directory),
            f"{name} {seed}",
            patch,
            policy=campaign.policy,
            rate=campaign.rate,
            ballast=campaign.ballast,
        )
        with contextlib.closing(sim):
            yield sim


def faults_of(name, seed):
    """The faults of a schedule."""
    campaign = CAMPAIGNS[name]
    return plan(f"{name} {seed}", campaign.size, campaign.seconds, campaign.each_second, campaign.weights)


def run(name, seed, faults=None):
    """Live through one schedule and return what came of it; raises what the oracle has to say."""
    campaign = CAMPAIGNS[name]
    faults = faults_of(name, seed) if faults is None else faults
    with _world(name, seed) as sim:
        sim.found(campaign.size)
        sim.clients.begin(campaign.seconds)
        Fate(sim).schedule(faults)
        sim.run(campaign.seconds)
        sim.settle()
        return sim.outcomes


def breach(name, seed, faults=None):
    """The promise that a schedule breaks and how, or None; whatever else ends it breaks one, too."""
    try:
        run(name, seed, faults)
    except Violation as violation:
        return violation.promise, str(violation)
    except Exception as error:  # noqa: BLE001 - no error may end a member but those that the faults explain
        return f"no member ends by a {type(error).__name__}", str(error)
    return None


def shrink(name, seed, promise, seconds=60.0):
    """The fewest faults found in that time that still break the promise (delta debugging)."""
    faults, parts, end = faults_of(name, seed), 2, time.perf_counter() + seconds
    while len(faults) > 1 and parts <= len(faults) and time.perf_counter() < end:
        size = -(-len(faults) // parts)
        for start in range(0, len(faults), size):
            rest = faults[:start] + faults[start + size :]
            found = breach(name, seed, rest)
            if found is not None and found[0] == promise:
                faults, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts == len(faults):
                break
            parts = min(len(faults), parts * 2)
    return faults


def story(name, seed, found):
    """What to print of a broken promise."""
    promise, detail = found
    fewest = shrink(name, seed, promise)
    return "\n".join(
        [
            f"campaign {name}, seed {seed} breaks: {detail}",
            f"again: tools/soak --campaign {name} --seed {seed}",
            f"the fewest faults that still break it, of {len(faults_of(name, seed))}:",
            *map(str, fewest),
        ]
    )
