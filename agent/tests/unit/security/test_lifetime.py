# SPDX-License-Identifier: GPL-3.0-or-later
"""When a certificate is renewed, how long between tries, and what is said of one whose time does not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.model.spec import Role
from covey.security.lifetime import pause_after, renew_at, trouble

ISSUED, HOUR, DAY = 1_800_000_000.0, 3600.0, 86_400.0
WORKER = SimpleNamespace(role=Role.WORKER, not_before=ISSUED - HOUR, not_after=ISSUED + DAY)


@given(life=st.floats(HOUR, 90 * DAY), dice=st.floats(0, 1, exclude_max=True))
def test_between_half_and_four_fifths_of_its_life(life, dice):
    at = renew_at(ISSUED - HOUR, ISSUED + life, dice)
    assert ISSUED + 0.499 * life <= at <= ISSUED + 0.801 * life


def test_the_dice_spread_the_nodes():
    moments = [renew_at(ISSUED - HOUR, ISSUED + 10 * DAY, dice / 10) for dice in range(10)]
    assert moments == sorted(set(moments))
    assert moments[0] == ISSUED + 5 * DAY


def test_a_certificate_without_a_life_is_due():
    assert renew_at(ISSUED - HOUR, ISSUED - 1, 0.9) < ISSUED


@pytest.mark.parametrize("backdated", [0.0, 300.0])
def test_one_of_an_authority_that_backdates_less_is_renewed_well_before_its_end(backdated):
    for dice in (0.0, 0.999):
        assert ISSUED + 0.4 * HOUR < renew_at(ISSUED - backdated, ISSUED + HOUR, dice) <= ISSUED + 0.91 * HOUR


def test_tries_come_less_often_but_many_times_in_any_life():
    pauses = [pause_after(failures, ISSUED - HOUR, ISSUED + HOUR, 1.0) for failures in range(1, 40)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (5.0, 360.0)
    assert pause_after(40, ISSUED - HOUR, ISSUED + 90 * DAY, 1.0) == 600.0
    assert pause_after(1, ISSUED - HOUR, ISSUED + HOUR, 0.0) == 2.5


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (ISSUED + DAY + 1, ("ended on 2027-01-16 08:00", "leave", "join anew", "clock")),
        (ISSUED - HOUR - 1, ("holds from 2027-01-15 07:00", "the clock is wrong", "timedatectl")),
    ],
)
def test_what_is_wrong_and_what_to_do(now, words):
    said = trouble(now, WORKER)
    assert all(word in said for word in words)


def test_a_manager_is_not_told_to_leave_where_it_may_be_the_last_one():
    said = trouble(ISSUED + DAY + 1, SimpleNamespace(**vars(WORKER) | {"role": Role.MANAGER}))
    assert said.index("covey cluster recover") < said.index("leave")
    assert "demote" in said


@pytest.mark.parametrize("now", [ISSUED - HOUR, ISSUED, ISSUED + DAY])
def test_in_its_time_nothing_is_wrong(now):
    assert trouble(now, WORKER) == ""
