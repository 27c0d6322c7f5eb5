# SPDX-License-Identifier: GPL-3.0-or-later
"""A front between a raw client and a scripted engine, all on real unix sockets in one event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from covey.api.front.engine import Engine
from covey.api.front.server import Front
from covey.api.front.sockets import Hangups, listen
from covey.api.http import HeaderHook, Proxied, Request, Response
from covey.api.routes import BODY_LIMIT

QUIET = 200  # turns of the event loop
GUARD = 30.0  # only a test that hangs ever sees it


@dataclass
class Peer:
    """One end of a raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> str:
        """Everything up to the empty line."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def body(self, head: str) -> bytes:
        """The body that this head announces."""
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            return b"".join([chunk async for chunk in self.chunks()])
        return await self.reader.readexactly(int(fields.get("content-length", "0")))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()

    async def ask(self, request: str) -> tuple[str, bytes]:
        """Send a request without a body, take the answer."""
        await self.send(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        head = await self.head()
        return head, await self.body(head)

    def close(self) -> None:
        self.writer.close()

    async def hung_up(self) -> None:
        """Return once the other side is closed altogether."""
        with closing(Hangups()) as hangups, hangups.watching(self.writer.get_extra_info("socket")) as gone:
            await gone.wait()


async def settle() -> None:
    """Let everything happen that needs no more input: all of it happens in this one loop."""
    for _ in range(QUIET):
        await asyncio.sleep(0)


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Ours:
    """A handler of ours that answers /ours..., and notes what it was asked."""

    asked: list[Request] = field(default_factory=list)
    reply: Callable[[Request], Awaitable[Response]] | None = None

    def body_limit(self, method: str, path: str) -> int:
        return BODY_LIMIT

    def owns(self, method: str, path: str) -> bool:
        return path.startswith("/ours")

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        if self.reply is not None:
            return await self.reply(request)
        return Response.json({"path": request.path, "size": len(request.body)})


def explain(error: Exception) -> Response:
    return Response.error(500, f"explained: {error}")


class World:
    """Front, engine and clients; `script` is what the engine does with each connection."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "front.sock"
        self.engine_path = directory / "engine.sock"
        self.ours = Ours()
        self.engine = Engine(self.engine_path)
        self.hook: HeaderHook | None = None
        self.connections = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._peers: list[Peer] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._guard = asyncio.get_running_loop().call_later(GUARD, self._give_up)
        front = Front(self.engine, [self.ours], explain, lambda answer: self.altered(answer))
        self._tasks.append(asyncio.create_task(front.serve(listen(self.path))))

    def _give_up(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def altered(self, answer: Proxied) -> Any:
        return self.hook(answer) if self.hook else answer.headers

    async def engine_does(self, script: Script) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            peer = Peer(reader, writer)
            self._peers.append(peer)
            await script(peer)

        self._server = await asyncio.start_unix_server(connected, self.engine_path)

    async def client(self) -> Peer:
        peer = Peer(*await asyncio.open_unix_connection(self.path))
        self._peers.append(peer)
        return peer

    async def stop(self) -> None:
        self._guard.cancel()
        for peer in self._peers:
            peer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for peer in self._peers:
            await asyncio.gather(peer.writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    one = World(tmp_path)
    await one.start()
    yield one
    await one.stop()


async def answers(peer: Peer) -> None:
    """An engine that answers every request of a connection with its path and size."""
    while True:
        try:
            head = await peer.head()
        except asyncio.IncompleteReadError:
            break
        size = len(await peer.body(head))
        method, target = head.split(" ")[:2]
        text = f"engine {target} {size}".encode()
        await peer.send(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: %d\r\n\r\n" % len(text))
        if method != "HEAD":
            await peer.send(text)
    peer.close()
