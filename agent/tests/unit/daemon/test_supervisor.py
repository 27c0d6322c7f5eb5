# SPDX-License-Identifier: GPL-3.0-or-later
"""Background work that ends by itself is noticed; stopping it is not a failure."""

import asyncio

from covey.daemon.supervisor import Supervisor


async def forever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise ValueError("broken")


async def brief() -> None:
    pass


async def test_the_first_error_is_reported():
    supervisor = Supervisor()
    supervisor.start("a", forever())
    supervisor.start("b", broken())
    assert str(await supervisor.failed()) == "broken"
    await supervisor.stop()


async def test_an_endless_task_that_ends_is_an_error():
    supervisor = Supervisor()
    supervisor.start("a", brief())
    assert "a ended" in str(await supervisor.failed())


async def test_a_finite_task_may_end_and_stopping_is_no_failure():
    supervisor = Supervisor()
    endless = supervisor.start("a", forever())
    await supervisor.start("b", brief(), endless=False)
    await supervisor.stop()
    assert endless.cancelled()
    failed = asyncio.ensure_future(supervisor.failed())
    await asyncio.sleep(0)
    assert not failed.done()
    failed.cancel()
