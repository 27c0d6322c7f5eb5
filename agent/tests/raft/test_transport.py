# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections by themselves: they end when they are told to."""

import asyncio
import ssl

import pytest

from covey.store.raft.transport import TlsNetwork
from covey.store.raft.wire import Hello
from tests.raft.harness import eventually


class Contexts:
    def client(self):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize("turns", range(5))
async def test_closing_ends_a_dial_that_is_woken_at_that_very_moment(turns):
    """Else a manager that stops just when another one greets it never ends."""
    network = TlsNetwork(Hello("127.0.0.1:1", b"session"), Contexts(), lambda tls: "node-b")
    network.admit("node-b", "127.0.0.1:1")
    peer = network._peers["node-b"]
    await eventually(lambda: peer.wake._waiters)
    peer.wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await network.close()
