# SPDX-License-Identifier: GPL-3.0-or-later
"""A Raft thread that hangs is seen from outside it, and one that goes on again, too."""

import asyncio
import threading

from covey.daemon.watchdog import feed
from tests.raft.harness import eventually


async def test_a_raft_thread_that_hangs_is_not_fed_for(cluster, caplog):
    store = (await cluster.found()).store
    fed: list[None] = []
    feeding = asyncio.create_task(feed(1.0, lambda: {"Raft thread": store.turns}, lambda: fed.append(None)))
    await eventually(lambda: len(fed) > 2, 10)

    goes_on = threading.Event()
    store._engine.loop.call_soon_threadsafe(goes_on.wait)
    await eventually(lambda: "Raft thread does not come round" in caplog.text, 10)
    hungry = len(fed)
    goes_on.set()
    await eventually(lambda: len(fed) > hungry, 10)
    feeding.cancel()


async def test_a_store_that_stopped_is_not_waited_for(cluster):
    member = await cluster.found()
    store = member.store
    assert store.turns is not None
    await member.stop()
    assert store.turns is None
