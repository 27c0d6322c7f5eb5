# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a certificate holds: when to renew it, and what is wrong when its time does not fit the clock.

Pure: the time and the dice are arguments.
"""

from __future__ import annotations

from datetime import UTC, datetime

from covey.model.spec import Role
from covey.security.ca import BACKDATE
from covey.security.identity import Identity

#: A certificate is renewed at a random point between these parts of its life, so that nodes do not all come at once.
EARLIEST, LATEST = 0.5, 0.8
#: Seconds between tries, at first and at most; never more than that part of the certificate's life.
FIRST_PAUSE, LAST_PAUSE, PART_OF_LIFE = 5.0, 600.0, 1 / 20


def renew_at(not_before: float, not_after: float, dice: float) -> float:
    """When to ask for the next certificate; ``dice`` in [0, 1)."""
    middle = (not_before + not_after) / 2  # an authority outside of the cluster may not have backdated it
    issued = min(not_before + BACKDATE.total_seconds(), middle)
    return issued + max(not_after - issued, 0.0) * (EARLIEST + (LATEST - EARLIEST) * dice)


def pause_after(failures: int, not_before: float, not_after: float, dice: float) -> float:
    """Seconds to wait after that many failures in a row."""
    longest = min(LAST_PAUSE, (not_after - not_before) * PART_OF_LIFE)
    growing = FIRST_PAUSE * 2.0 ** min(max(failures - 1, 0), 16)
    return min(growing, longest) * (0.5 + dice / 2)


def trouble(now: float, who: Identity) -> str:
    """Why managers will not take this certificate now, and what to do; empty if its time is right."""
    if now > who.not_after:
        remedy = "Let it leave (docker swarm leave --force) and join anew"
        if who.role is Role.MANAGER:
            remedy = (
                "If no other manager leads (docker node ls), go on with the one that knows most (covey cluster "
                "recover); else demote and remove this one there, let it leave (docker swarm leave --force) and join "
                "anew"
            )
        return (
            f"this node's certificate ended on {_day(who.not_after)} (this host's clock says {_day(now)}), so the "
            f"managers refuse it: the node was away for too long. {remedy}; or if the clock is wrong, set it right, "
            "and the node comes back by itself"
        )
    if now < who.not_before:
        return (
            f"this node's certificate holds from {_day(who.not_before)} only, but this host's clock says {_day(now)}: "
            "the clock is wrong. Set it right (timedatectl), and the node comes back by itself"
        )
    return ""


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
