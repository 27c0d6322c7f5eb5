# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call to a store ends by its deadline, whatever its Raft thread does."""

import threading

import pytest

from covey.model.errors import Unavailable
from covey.model.secret import Secret
from tests.raft.harness import create


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.propose(create("web"), 0.2),
        lambda store: store.barrier(0.2),
        lambda store: store.add_member("node-b", "127.0.0.1:1", 0.2),
        lambda store: store.remove_member("node-b", 0.2),
        lambda store: store.relock(1, Secret(b"k"), 0.2),
    ],
    ids=["propose", "barrier", "add_member", "remove_member", "relock"],
)
async def test_a_raft_thread_that_hangs_keeps_nobody(cluster, call):
    store = (await cluster.found()).store
    await cluster.leader()
    goes_on = threading.Event()
    store._engine.loop.call_soon_threadsafe(goes_on.wait)
    try:
        with pytest.raises(Unavailable, match=r"answered within 0\.2 s; the change may still take effect"):
            await call(store)
    finally:
        goes_on.set()
