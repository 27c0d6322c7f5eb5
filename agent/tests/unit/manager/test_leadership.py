# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager runs what a leader runs exactly while it leads, once a term."""

import asyncio

import pytest

from covey.manager.leadership import follow_leadership
from covey.store.base import Leadership, Notifier, Waiter


class Throne:
    """The part of a store that says who leads."""

    def __init__(self) -> None:
        self._now, self._notifier = Leadership(), Notifier()

    def leadership(self) -> Leadership:
        return self._now

    def changed(self) -> Waiter:
        return self._notifier.waiter()

    async def becomes(self, term: int, leading: bool) -> None:
        self._now = Leadership(term, "me" if leading else None, leading)
        self._notifier.notify()
        for _ in range(10):  # lets every ready callback run; no time passes
            await asyncio.sleep(0)


class Reigns:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.error: Exception | None = None

    async def lead(self, term: int) -> None:
        self.log.append(f"begin {term}")
        try:
            if self.error:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.log.append(f"end {term}")


@pytest.fixture
async def world():
    throne, reigns = Throne(), Reigns()
    following = asyncio.create_task(follow_leadership(throne, reigns.lead))
    yield throne, reigns, following
    following.cancel()
    await asyncio.wait({following})


async def test_it_leads_while_it_is_the_leader(world):
    throne, reigns, _ = world
    await throne.becomes(1, False)
    assert reigns.log == []
    await throne.becomes(2, True)
    await throne.becomes(2, True)
    assert reigns.log == ["begin 2"]
    await throne.becomes(3, False)
    assert reigns.log == ["begin 2", "end 2"]


async def test_a_new_term_is_a_new_reign(world):
    throne, reigns, _ = world
    await throne.becomes(2, True)
    await throne.becomes(4, True)
    assert reigns.log == ["begin 2", "end 2", "begin 4"]


async def test_stopping_ends_the_reign(world):
    throne, reigns, following = world
    await throne.becomes(2, True)
    following.cancel()
    await asyncio.wait({following})
    assert reigns.log == ["begin 2", "end 2"]


async def test_what_breaks_while_leading_is_not_survived(world):
    throne, reigns, following = world
    reigns.error = ValueError("broken")
    await throne.becomes(2, True)
    assert isinstance(following.exception(), ValueError)
