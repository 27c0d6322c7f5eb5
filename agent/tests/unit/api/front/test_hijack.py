# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams taken over: attach, exec, sessions.  Byte for byte, each direction for itself."""

import asyncio
from contextlib import suppress

import pytest

from .conftest import Peer, Script, World, answers
from .test_streams import BLOCK, HELD, MEBI, sip, stuck

UPGRADE = b"POST /containers/a/attach?stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
PLAIN = b"POST /containers/a/attach?stream=1 HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
RAW = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
MULTIPLEXED = RAW.replace(b"raw", b"multiplexed")
WAYS = pytest.mark.parametrize(
    ("request_head", "answer_head"),
    [(UPGRADE, UPGRADED), (PLAIN, RAW), (PLAIN, MULTIPLEXED), (UPGRADE, RAW)],
    ids=["upgraded", "raw", "multiplexed", "upgrade ignored"],
)


def after(answer_head: bytes, then: Script) -> Script:
    """An engine that takes the stream over and goes on."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer_head)
        await then(peer)

    return script


async def attached(world: World, request_head: bytes = UPGRADE) -> Peer:
    client = await world.client()
    await client.send(request_head)
    await client.head()
    return client


async def refused(peer: Peer) -> None:
    """Send until the other side is found closed."""
    with suppress(ConnectionError):
        while True:
            await peer.send(BLOCK)


@WAYS
async def test_the_end_of_input_passes_while_output_goes_on(
    world: World, request_head: bytes, answer_head: bytes
) -> None:
    async def engine(peer: Peer) -> None:
        await peer.send(b"\x00ready\r\n")
        heard = await peer.reader.read()  # to the end of its input
        for piece in (b"heard ", heard, b" and more"):
            await peer.send(piece)
        peer.close()

    await world.engine_does(after(answer_head, engine))
    client = await world.client()
    await client.send(request_head)
    assert (await client.head()).encode() == answer_head
    assert await client.reader.readexactly(8) == b"\x00ready\r\n"
    await client.send(b"input\xff\r\n\r\n")
    client.writer.write_eof()
    assert await client.reader.read() == b"heard input\xff\r\n\r\n and more"


@WAYS
async def test_the_end_of_output_passes_while_input_goes_on(
    world: World, request_head: bytes, answer_head: bytes
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await peer.send(b"bye")
        peer.writer.write_eof()
        await heard.put(await peer.reader.read())

    await world.engine_does(after(answer_head, engine))
    client = await attached(world, request_head)
    assert await client.reader.read() == b"bye"
    await client.send(b"still here")
    client.writer.write_eof()
    assert await heard.get() == b"still here"


@WAYS
async def test_what_comes_along_with_the_heads_is_of_the_stream(
    world: World, request_head: bytes, answer_head: bytes
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer_head + b"first words")
        await heard.put(await peer.reader.read())
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(request_head + b"GET / HTTP/1.1\r\n\r\nis input")
    client.writer.write_eof()
    await client.head()
    assert await client.reader.read() == b"first words"
    assert await heard.get() == b"GET / HTTP/1.1\r\n\r\nis input"


async def test_a_request_with_a_body_may_be_taken_over(world: World) -> None:
    async def engine(peer: Peer) -> None:
        head = await peer.head()
        assert await peer.body(head) == b'{"Tty":true}'
        await peer.send(UPGRADED + b"$ ")
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    body = b'{"Tty":true}'
    await client.send(UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))
    await client.head()
    assert await client.reader.read() == b"$ "


async def test_a_refused_upgrade_leaves_an_ordinary_connection(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    await client.send(UPGRADE)
    assert await client.body(await client.head()) == b"engine /containers/a/attach?stream=1 0"
    assert (await client.ask("GET /ours HTTP/1.1\nHost: x"))[0].startswith("HTTP/1.1 200 ")


async def test_framed_logs_of_a_raw_type_are_an_ordinary_answer(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(RAW.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nlog\r\n0\r\n\r\n"))

    await world.engine_does(engine)
    client = await world.client()
    assert (await client.ask("GET /containers/a/logs HTTP/1.1\nHost: x"))[1] == b"log"
    assert (await client.ask("GET /ours HTTP/1.1\nHost: x"))[0].startswith("HTTP/1.1 200 ")


async def test_the_last_output_survives_input_nobody_reads(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.send(BLOCK * 2)
        peer.close()  # with input unread: writing to it now fails

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    sending = asyncio.create_task(stuck(client, BLOCK))
    assert await client.reader.readexactly(len(BLOCK) * 2) == BLOCK * 2
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_client_that_is_gone_ends_the_engines_side(world: World) -> None:
    failed = asyncio.Event()

    async def engine(peer: Peer) -> None:
        assert await peer.reader.read() == b"last words"
        await refused(peer)
        failed.set()

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    await client.send(b"last words")
    client.close()
    await failed.wait()


async def test_an_engine_that_is_gone_ends_the_clients_side(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.send(b"exit 0")
        peer.close()

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    assert await client.reader.read() == b"exit 0"
    await refused(client)


async def test_an_idle_client_is_told_that_the_engine_is_gone(world: World) -> None:
    async def engine(peer: Peer) -> None:
        peer.close()

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    assert await client.reader.read() == b""
    await client.hung_up()


async def test_an_idle_engine_is_told_that_the_client_is_gone(world: World) -> None:
    told = asyncio.Event()

    async def engine(peer: Peer) -> None:
        assert await peer.reader.read() == b""
        await peer.hung_up()
        told.set()

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    client.close()
    await told.wait()


async def test_all_that_a_client_sent_before_it_left_arrives(world: World) -> None:
    got: asyncio.Queue[int] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await got.put(await sip(peer))

    await world.engine_does(after(UPGRADED, engine))
    client = await attached(world)
    client.writer.write(bytes(MEBI))
    client.close()
    assert await got.get() == MEBI


async def test_both_directions_are_full_at_once(world: World) -> None:
    async def echo(peer: Peer) -> None:
        while data := await peer.reader.read(MEBI):
            await peer.send(data)
        peer.close()

    await world.engine_does(after(UPGRADED, echo))
    client = await attached(world)

    async def speak() -> None:
        for _ in range(20 * MEBI // len(BLOCK)):
            await client.send(BLOCK)
        client.writer.write_eof()

    speaking = asyncio.create_task(speak())
    assert await client.reader.read() == BLOCK * (20 * MEBI // len(BLOCK))
    await speaking


async def test_a_client_that_does_not_read_stops_the_output(world: World) -> None:
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await taken.put(await stuck(peer, BLOCK))

    await world.engine_does(after(UPGRADED, engine))
    await attached(world)
    assert await taken.get() < HELD
