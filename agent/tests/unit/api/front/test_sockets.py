# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket's file, and knowing that the other end is gone."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from covey.api.front.sockets import Hangups, connect, credentials, listen
from covey.model import errors


def test_the_file_is_for_owner_and_group(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        with listen(tmp_path / "s", group=os.getgid()):
            found = (tmp_path / "s").stat()
    finally:
        os.umask(previous)
    assert found.st_mode & 0o777 == 0o660
    assert found.st_gid == os.getgid()


def test_a_group_may_be_named(tmp_path: Path) -> None:
    with listen(tmp_path / "s", group="root"):
        assert (tmp_path / "s").stat().st_gid == 0


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match=r"'nonesuch' does not exist.*groupadd --system nonesuch"):
        listen(tmp_path / "s", group="nonesuch")
    assert not (tmp_path / "s").exists()


def test_what_a_crash_left_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path / "s").close()
    with listen(tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))


def test_a_socket_that_answers_is_not_taken(tmp_path: Path) -> None:
    with listen(tmp_path / "s"):
        with pytest.raises(errors.BadConfig, match="another process answers"):
            listen(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))


def test_another_file_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(errors.BadConfig, match="is not a socket"):
        listen(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


@pytest.mark.parametrize("name", ["absent/s", "x" * 200])
def test_an_impossible_path_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.BadConfig, match="cannot listen on"):
        listen(tmp_path / name)


async def test_nobody_there_is_an_engine_that_is_down(tmp_path: Path) -> None:
    with pytest.raises(errors.EngineDown, match="No such file"):
        await connect(tmp_path / "absent")
    listen(tmp_path / "s").close()
    with pytest.raises(errors.EngineDown, match="refused"):
        await connect(tmp_path / "s")


async def test_a_crowded_engine_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        first = await connect(tmp_path / "s")
        waiting = asyncio.create_task(connect(tmp_path / "s"))
        await asyncio.sleep(0)
        assert not waiting.done()
        accepted = listener.accept()[0]
        second = await waiting
        for connection in (first, second, accepted):
            connection.close()


async def test_a_half_close_is_no_hang_up() -> None:
    hangups, (here, there) = Hangups(), socket.socketpair()
    here.setblocking(False)
    with here, there, hangups.watching(here) as gone:
        there.sendall(b"unread")
        there.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0)
        assert not gone.is_set()
        there.close()
        await gone.wait()
        assert here.recv(10) == b"unread"
    hangups.close()


def test_the_kernel_says_who_calls() -> None:
    here, there = socket.socketpair()
    with here, there:
        caller = credentials(here)
    assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.getuid(), os.getgid())
