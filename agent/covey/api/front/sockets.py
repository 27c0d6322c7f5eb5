# SPDX-License-Identifier: GPL-3.0-or-later
"""Unix sockets: making ours, dialling the engine's, learning that the other end is gone.  Never in it: HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import select
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from covey.api.http import Credentials
from covey.model import errors

BACKLOG = 512
MODE = 0o660
CONNECT_TIMEOUT = 5.0
LINGER = 1.0
CHUNK = 64 * 1024
_BUSY_PAUSE = 0.01


def listen(path: Path, group: str | int | None = None) -> socket.socket:
    """Our listening socket at `path`, open to its owner and to `group` (name or number; None: the process's own).

    A socket left over from a crash is replaced; one on which somebody answers is not, and neither is any other file.
    """
    gid = _group_id(group)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        # Nobody can connect before listen(), so nobody slips in before owner and mode are right.
        os.chown(path, -1, gid)
        path.chmod(MODE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise errors.BadConfig(f"cannot listen on {path}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


async def connect(path: Path) -> socket.socket:
    """A connection to the engine; EngineDown when nobody listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await _dial(connection, path)
    except OSError as error:  # TimeoutError is one
        connection.close()
        reason = error.strerror or "it does not accept connections"
        raise errors.EngineDown(f"the container engine does not answer on {path}: {reason}") from error
    except asyncio.CancelledError:
        connection.close()
        raise
    return connection


def credentials(connection: socket.socket) -> Credentials:
    """Who connected, as the kernel noted it then."""
    layout = struct.Struct("3i")
    return Credentials(*layout.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)))


def half_close(connection: socket.socket) -> None:
    """Say that no more comes from here."""
    with contextlib.suppress(OSError):  # the other end is gone already
        connection.shutdown(socket.SHUT_WR)


async def part(connection: socket.socket) -> None:
    """Close so that the other end can read our last words, even while it is still sending what nobody will read."""
    half_close(connection)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LINGER):
            while await loop.sock_recv(connection, CHUNK):
                pass
    except OSError:  # TimeoutError is one: enough patience either way
        pass
    finally:
        connection.close()


class Hangups:
    """Tells when the other end of a socket is closed altogether, which reading alone cannot: a half-close reads alike.

    Neither is it noticed while input waits unread.  One epoll for hang-ups only, itself watched by the event loop.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._events: dict[int, asyncio.Event] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._notice)

    @contextlib.contextmanager
    def watching(self, connection: socket.socket) -> Iterator[asyncio.Event]:
        """An event that is set once the other end is gone."""
        descriptor, event = connection.fileno(), asyncio.Event()
        self._events[descriptor] = event
        self._epoll.register(descriptor, 0)  # EPOLLHUP is always reported
        try:
            yield event
        finally:
            if self._events.pop(descriptor, None) and not event.is_set():
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _notice(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            self._epoll.unregister(descriptor)
            self._events[descriptor].set()


async def _dial(connection: socket.socket, path: Path) -> None:
    while True:
        try:
            connection.connect(str(path))
        except BlockingIOError:  # its backlog is full; a unix socket is not "in progress" then, so poll() would lie
            await asyncio.sleep(_BUSY_PAUSE)
        else:
            return


def _group_id(group: str | int | None) -> int:
    if group is None:
        return -1
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise errors.BadConfig(
            f"the socket's group {group!r} does not exist on this host: create it with `groupadd --system {group}`, "
            "or configure another"
        ) from None


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.BadConfig(f"{path} exists and is not a socket: move it away, or configure another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:  # somebody is there, with a full backlog
            pass
    raise errors.BadConfig(f"another process answers on {path}: stop it first, or configure another path")
