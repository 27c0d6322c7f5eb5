# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of Raft ports, and what listens there."""

from __future__ import annotations

import socket

import pytest

from covey.model.errors import FailedPrecondition
from covey.store.raft import sockets


@pytest.mark.parametrize(
    ("address", "parts"), [("192.0.2.1:2378", ("192.0.2.1", 2378)), ("[2001:db8::1]:2378", ("2001:db8::1", 2378))]
)
def test_an_address_is_a_host_and_a_port(address, parts):
    assert sockets.split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "192.0.2.1", ":2378", "a..b:1", "192.0.2.1:http", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:92378"]
)
def test_what_is_no_address_cannot_be_dialled(address):
    with pytest.raises(OSError, match="is no IP address and port"):
        sockets.split_address(address)


async def test_a_port_that_is_taken_is_told():
    with await sockets.open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"cannot listen on 127.0.0.1 port {port}"):
            await sockets.open_listener("127.0.0.1", port)


async def test_connections_come_out_one_by_one():
    with await sockets.open_listener("127.0.0.1", 0) as listener:
        callers = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        for caller in callers:
            with await sockets.next_connection(listener) as accepted:
                assert accepted.getpeername() == caller.getsockname()
                assert sockets.caller_of(accepted) == "127.0.0.1"
            caller.close()


def test_one_that_hung_up_has_no_address():
    with socket.socket() as never_connected:
        assert sockets.caller_of(never_connected) == "somebody who hung up"
