# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets to managers: addresses, and options by which a peer that vanished is noticed in seconds.

Never in it: TLS, HTTP.
"""

from __future__ import annotations

import socket

from covey.client.wire import PORT

#: To connect and shake hands; a manager that is slower is passed over for another.
CONNECT_TIMEOUT = 1.5
#: Milliseconds after which data that the other end does not confirm ends the connection.
_UNCONFIRMED = 4000
_IDLE, _INTERVAL, _PROBES = 2, 1, 2

_AddrInfo = tuple[int, int, int, str, tuple[object, ...]]


def make(info: _AddrInfo) -> socket.socket:
    """A socket for that address, as aiohttp's connector asks for one."""
    connection = socket.socket(family=info[0], type=info[1], proto=info[2])
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNCONFIRMED),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
    ):
        connection.setsockopt(level, option, value)
    return connection


def with_port(address: str) -> str:
    """``host:port`` of an address whose port may be left out; an IPv6 address then needs its brackets."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
        return address
    return f"{address}:{PORT}"
