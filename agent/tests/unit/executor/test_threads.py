# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import threading

import pytest

from covey.executor.threads import Threads


async def test_results_and_errors_come_back() -> None:
    threads = Threads("test", 2)
    assert await threads.call(lambda: 7) == 7
    with pytest.raises(KeyError):
        await threads.call(lambda: {}["absent"])


async def test_calls_beyond_the_limit_wait_even_for_those_nobody_waits_for() -> None:
    threads, release = Threads("test", 1), threading.Event()
    first = asyncio.create_task(threads.call(release.wait))
    second = asyncio.create_task(threads.call(threading.get_ident))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert not second.done()
    release.set()
    assert await second != threading.get_ident()


async def test_threads_do_not_hold_up_the_end_of_the_process() -> None:
    assert await Threads("test", 1).call(lambda: threading.current_thread().daemon)


def test_a_thread_that_outlives_its_loop_ends_in_silence() -> None:
    started, release = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        release.wait()

    async def leave() -> None:
        call = asyncio.create_task(Threads("outlives", 1).call(slow))
        await asyncio.to_thread(started.wait)
        call.cancel()

    asyncio.run(leave())
    release.set()
    for thread in threading.enumerate():
        if thread.name == "outlives":
            thread.join()
