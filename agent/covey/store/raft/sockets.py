# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP as managers use it among each other: addresses, options, accepting.  Never in it: TLS, who the other end is."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket

from covey.model.errors import FailedPrecondition

_log = logging.getLogger(__name__)

#: Seconds until the next try after a connection could not be accepted.
PAUSE = 0.1


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``IP:port`` or ``[v6]:port``; OSError if it is neither.  Names are not looked up."""
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port) if port.isdecimal() else 0
    except ValueError:
        number = 0
    if not 0 < number < 1 << 16:
        raise OSError(f"{address!r} is no IP address and port")
    return host.strip("[]"), number


def tune(connection: socket.socket) -> None:
    """Send small messages at once, and notice within seconds that the other side is gone without a word."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4000)


async def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens; FailedPrecondition if the port is taken."""
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = infos[0]
        listener = socket.create_server(where[:2], family=family, backlog=64)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot listen on {host or '*'} port {port} for the other managers: {error.strerror}; free the port, "
            "or set another listen address"
        ) from error
    listener.setblocking(False)
    return listener


async def next_connection(listener: socket.socket) -> socket.socket:
    """The next connection, whatever became of the ones before it or of this host's descriptors.

    Not by ``loop.sock_accept``: that loses a connection, open, if it is cancelled just when it has one.
    """
    while True:
        await _readable(listener)
        try:
            connection, _ = listener.accept()
            connection.setblocking(False)
        except BlockingIOError:
            continue
        except OSError as error:
            _log.warning("the Raft port could not accept a connection: %s", error)
            await asyncio.sleep(PAUSE)
        else:
            return connection


async def _readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(listener, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(listener)


def caller_of(connection: socket.socket) -> str:
    """Its address, for a person."""
    try:
        return str(connection.getpeername()[0])
    except OSError:
        return "somebody who hung up"
