# SPDX-License-Identifier: GPL-3.0-or-later
"""Systemd is fed while every part comes round, not otherwise."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from virtual_time import VirtualLoop

from covey.daemon.watchdog import feed, stuck


def times_fed(turns: Callable[[float], Mapping[str, int]], seconds: float, period: float = 10.0) -> list[float]:
    """When systemd was fed within so many seconds; ``turns`` of the time."""
    fed: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        feeding = feed(period, lambda: turns(loop.time()), lambda: fed.append(loop.time()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await feeding

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return fed


def test_stuck_is_what_stays_as_it_was():
    assert stuck({"a": 1, "b": 5}, {"a": 2, "b": 5, "c": 0}) == ["b"]
    assert stuck({"a": 1}, {}) == []


def test_an_agent_with_one_loop_is_fed_by_running():
    assert times_fed(lambda now: {}, 11) == [0, 2.5, 5, 7.5, 10]


def test_not_fed_from_the_first_look_that_finds_a_part_where_it_was(caplog):
    assert times_fed(lambda now: {"Raft thread": min(int(now * 25), 100)}, 60) == [0, 2.5, 5]
    assert caplog.text.count("Raft thread does not come round any more") == 1


def test_fed_again_once_it_goes_on():
    def turns(now: float) -> Mapping[str, int]:
        return {"Raft thread": 7 if 4 < now < 9 else int(now * 25) + 8}

    assert times_fed(turns, 14) == [0, 2.5, 5, 10, 12.5]


def test_a_part_that_begins_or_ends_is_not_stuck():
    assert len(times_fed(lambda now: {"Raft thread": 0} if 4 < now < 6 else {}, 11)) == 5
