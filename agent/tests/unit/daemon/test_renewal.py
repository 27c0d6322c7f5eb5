# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's certificate is renewed in time, on request, and again and again until it is done; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from virtual_time import BEGIN, VirtualClock, VirtualLoop

from covey.daemon.renewal import Renewals
from covey.model.errors import InvalidArgument, Unavailable
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security.identity import Identity

HOUR, DAY = 3600.0, 86_400.0


class Life:
    """A node whose renewals succeed unless told otherwise; ``lifetime`` is that of the next certificate."""

    def __init__(self, clock: VirtualClock, lifetime: float) -> None:
        self.clock, self.lifetime = clock, lifetime
        self.who: Identity | None = self.certified()
        self.asked: list[float] = []
        self.failure: Exception | None = None
        self.trusted: list[bytes] = []
        self.distrust: Exception | None = None

    def certified(self) -> Identity:
        now = self.clock.now()
        times = now - HOUR, now + self.lifetime
        return Identity("n", "c", Role.WORKER, b"", Secret(b""), b"", *times)

    def identity(self) -> Identity | None:
        return self.who

    async def renew(self) -> None:
        self.asked.append(self.clock.now() - BEGIN)
        if self.failure:
            raise self.failure
        self.who = self.certified()

    async def trust(self, root: bytes) -> None:
        self.trusted.append(root)
        if self.distrust:
            raise self.distrust


Story = Callable[[Life, Renewals], Awaitable[None]]


def told(story: Story, lifetime: float = HOUR) -> Life:
    """The story, while renewals run; the dice of the clock always show one half."""

    async def tell() -> Life:
        clock = VirtualClock()
        life = Life(clock, lifetime)
        renewals = Renewals(life, clock)
        running = asyncio.create_task(renewals.run())
        await story(life, renewals)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return life

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(tell())


async def two_hours(_life: Life, _renewals: Renewals) -> None:
    await asyncio.sleep(2 * HOUR)


def test_each_certificate_is_renewed_at_its_own_time():
    asked = told(two_hours).asked
    due = 0.65 * HOUR
    assert asked == pytest.approx([due, 2 * due, 3 * due], abs=1)


def test_a_shorter_life_holds_from_the_next_renewal_on():
    async def story(life: Life, _renewals: Renewals) -> None:
        life.lifetime = HOUR
        await asyncio.sleep(65 * DAY + HOUR)

    asked = told(story, lifetime=100 * DAY).asked
    assert asked == pytest.approx([65 * DAY, 65 * DAY + 0.65 * HOUR], abs=1)


def test_while_nobody_answers_it_is_tried_again_and_again_ever_less_often():
    async def story(life: Life, _renewals: Renewals) -> None:
        life.failure = Unavailable("no manager answers")
        await asyncio.sleep(HOUR)
        life.failure = None
        await asyncio.sleep(0.3 * HOUR)

    asked = told(story).asked
    pauses = [later - sooner for sooner, later in itertools.pairwise(asked)]
    tries = [pause for pause in pauses if pause < 0.5 * HOUR]
    assert pauses == tries
    assert tries[0] == pytest.approx(3.75)
    assert tries[:7] == sorted(tries[:7])
    assert max(tries) == pytest.approx(270)


def test_who_failed_for_long_does_not_keep_a_manager_waiting_that_asks_for_it():
    async def story(life: Life, renewals: Renewals) -> None:
        life.failure = Unavailable("no manager answers")
        await asyncio.sleep(40 * DAY)
        life.failure = None
        before = len(life.asked)
        renewals.want()
        await asyncio.sleep(1)
        assert len(life.asked) == before + 1

    told(story, lifetime=30 * DAY)


def test_one_that_is_due_as_soon_as_it_is_there_is_no_busy_loop():
    async def story(life: Life, renewals: Renewals) -> None:
        life.lifetime = -HOUR / 2  # the root ends
        renewals.want()
        await asyncio.sleep(HOUR)

    assert len(told(story).asked) < 100


def test_a_full_disk_is_tried_again_too():
    async def story(life: Life, _renewals: Renewals) -> None:
        life.failure = OSError(28, "No space left on device")
        await asyncio.sleep(0.66 * HOUR)
        life.failure = None
        await asyncio.sleep(0.1 * HOUR)
        assert life.who is not None
        assert life.who.not_after > life.clock.now() + 0.8 * HOUR

    told(story)


def test_a_manager_that_asks_for_it_is_obeyed_at_once_and_once():
    async def story(_life: Life, renewals: Renewals) -> None:
        await asyncio.sleep(100)
        renewals.want()
        await asyncio.sleep(0.5 * HOUR)

    assert told(story).asked == [100.0]


def test_a_wish_that_cannot_be_fulfilled_is_remembered():
    async def story(life: Life, renewals: Renewals) -> None:
        life.failure = Unavailable("no manager answers")
        renewals.want()
        await asyncio.sleep(1)
        life.failure = None
        await asyncio.sleep(9)

    assert told(story).asked == pytest.approx([0.0, 3.75])


def test_a_root_that_alone_counts_is_taken_at_once_without_a_renewal():
    async def story(_life: Life, renewals: Renewals) -> None:
        renewals.trust(b"root")
        await asyncio.sleep(1)

    life = told(story)
    assert (life.trusted, life.asked) == ([b"root"], [])


def test_a_root_that_cannot_be_taken_is_brought_by_a_renewal():
    async def story(life: Life, renewals: Renewals) -> None:
        life.distrust = InvalidArgument("the new root is none that this node trusts")
        renewals.trust(b"root")
        await asyncio.sleep(1)

    life = told(story)
    assert (life.trusted, life.asked) == ([b"root"], [0.0])


def test_a_host_in_no_cluster_renews_nothing_and_one_that_joins_does_in_time():
    async def story(life: Life, _renewals: Renewals) -> None:
        life.who = None
        await asyncio.sleep(10 * DAY)
        assert life.asked == []
        life.who = life.certified()
        await asyncio.sleep(0.7 * HOUR)

    assert len(told(story).asked) == 1


def test_what_nobody_foresaw_ends_the_agent():
    async def story(life: Life, renewals: Renewals) -> None:
        life.failure = RuntimeError("half of a node")
        renewals.want()
        with pytest.raises(RuntimeError, match="half of a node"):
            await renewals.run()

    async def alone() -> None:
        clock = VirtualClock()
        life = Life(clock, HOUR)
        await story(life, Renewals(life, clock))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(alone())
