# SPDX-License-Identifier: GPL-3.0-or-later
"""Two thousand seeded lives of a cluster, full of power failures, cut links and changes of the managers.

``make soak`` lives through fresh ones.
"""

import os

import pytest

from tests.raft import campaigns

#: How many schedules of each campaign; a test lives through a block of them.
SCHEDULES = {
    "three": 450,
    "five": 200,
    "three-without-compaction": 250,
    "five-without-compaction": 150,
    "big-entries": 250,
    "power": 250,
    "links": 150,
    "membership": 200,
    "crowd": 100,
}
BLOCK = 25


def test_the_dice_are_the_same_every_time():
    assert os.environ.get("PYTHONHASHSEED") == "0", "pysyncobj walks through sets: set PYTHONHASHSEED=0"
    assert sum(SCHEDULES.values()) >= 2000


def test_a_schedule_is_the_same_every_time():
    assert campaigns.run("three", 7) == campaigns.run("three", 7)


@pytest.mark.parametrize(
    ("name", "first"), [(n, first) for n, end in SCHEDULES.items() for first in range(0, end, BLOCK)]
)
def test_every_promise_is_kept(name, first):
    for seed in range(first, first + BLOCK):
        found = campaigns.breach(name, seed)
        assert found is None, campaigns.story(name, seed, found)
