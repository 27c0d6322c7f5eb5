# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies without end: nothing is held, whoever is slow slows the other, whoever leaves ends the other."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from covey.api.http import Request, Response
from covey.api.routes import BODY_LIMIT

from .conftest import QUIET, Peer, World, answers, settle

MEBI = 1024 * 1024
BIG = 100 * MEBI
BLOCK = bytes(range(256)) * 256
HELD = 4 * MEBI  # the kernel's and the test's own buffers, generously


def peak_memory() -> int:
    """The most that this process had resident since `forget_peak`, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def framed(block: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block) if chunked else block


def framing(chunked: bool, size: int) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size


async def pour(peer: Peer, size: int, chunked: bool) -> None:
    for _ in range(size // len(BLOCK)):
        await peer.send(framed(BLOCK, chunked))
    if chunked:
        await peer.send(b"0\r\n\r\n")


async def drink(peer: Peer, head: str) -> int:
    """Read a body to its end; how long it was."""
    if "chunked" in head.lower():
        return sum([len(chunk) async for chunk in peer.chunks()])
    left = total = int(re.search(r"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
    while left:
        left -= len(await peer.reader.read(min(left, MEBI)))
    return total


async def stuck(peer: Peer, block: bytes) -> int:
    """Send until the other side takes no more; how many bytes that were."""
    sent = idle = 0
    while idle < QUIET:
        if not peer.writer.transport.get_write_buffer_size():
            peer.writer.write(block)
            sent += len(block)
            idle = 0
        idle += 1
        await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_long_download_leaves_no_trace_in_memory(world: World, chunked: bool) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked, BIG))
        await pour(peer, BIG, chunked)

    await world.engine_does(engine)
    client = await world.client()
    before = forget_peak()
    await client.send(b"GET /export HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await drink(client, await client.head()) == BIG
    assert peak_memory() - before < HELD


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_long_upload_leaves_no_trace_in_memory(world: World, chunked: bool) -> None:
    async def engine(peer: Peer) -> None:
        size = await drink(peer, await peer.head())
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n%d" % size)

    await world.engine_does(engine)
    client = await world.client()
    before = forget_peak()
    await client.send(b"POST /images/load HTTP/1.1\r\nHost: x\r\n" + framing(chunked, BIG))
    await pour(client, BIG, chunked)
    assert await client.body(await client.head()) == b"%d" % BIG
    assert peak_memory() - before < HELD


async def test_a_client_that_does_not_read_stops_the_engine(world: World) -> None:
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked=True, size=0))
        await taken.put(await stuck(peer, framed(BLOCK, chunked=True)))

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await taken.get() < HELD


async def test_an_engine_that_does_not_read_stops_the_client(world: World) -> None:
    reads = asyncio.Event()

    async def engine(peer: Peer) -> None:
        await reads.wait()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"POST /images/load HTTP/1.1\r\nHost: x\r\n" + framing(chunked=True, size=0))
    assert await stuck(client, framed(BLOCK, chunked=True)) < HELD
    reads.set()


async def test_each_piece_passes_at_once_and_both_ways_at_once(world: World) -> None:
    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked=True, size=0))
        async for chunk in peer.chunks():
            await peer.send(framed(chunk.upper(), chunked=True))
        await peer.send(b"0\r\n\r\n")

    await world.engine_does(echo)
    client = await world.client()
    await client.send(b"POST /build HTTP/1.1\r\nHost: x\r\n" + framing(chunked=True, size=0))
    await client.head()
    for word in (b"a", b"bc", b"def"):
        await client.send(framed(word, chunked=True))
        assert await client.reader.readexactly(len(framed(word, chunked=True))) == framed(word.upper(), chunked=True)
    await client.send(b"0\r\n\r\n")
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    assert (await client.ask("GET /ours HTTP/1.1\nHost: x"))[0].startswith("HTTP/1.1 200 ")


async def test_a_client_that_leaves_ends_the_engines_stream(world: World) -> None:
    ended = asyncio.Event()

    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked=True, size=0) + framed(b"{}", chunked=True))
        assert await peer.reader.read() == b""
        ended.set()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    client.close()
    await ended.wait()


async def test_a_client_that_leaves_before_any_answer_ends_the_engines_wait(world: World) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def engine(peer: Peer) -> None:
        await peer.head()
        asked.set()
        assert await peer.reader.read() == b""
        ended.set()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"POST /containers/a/wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await asked.wait()
    client.close()
    await ended.wait()


async def test_a_client_that_breaks_off_its_upload_breaks_off_the_engines(world: World) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await peer.head()
        await got.put(await peer.reader.read())

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"PUT /archive HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    client.close()
    assert await got.get() == b"half"


async def sip(peer: Peer) -> int:
    """Read to the end in small pieces, so that much is still under way when the sender is done; how much it was."""
    total = 0
    while data := await peer.reader.read(4096):
        total += len(data)
        await settle()
    return total


async def test_a_request_whose_client_left_is_still_passed_on_whole(world: World) -> None:
    got: asyncio.Queue[int] = asyncio.Queue()

    async def engine(peer: Peer) -> None:
        await peer.head()
        await got.put(await sip(peer))

    await world.engine_does(engine)
    client = await world.client()
    client.writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framing(chunked=False, size=MEBI))
    client.writer.write(bytes(MEBI))
    client.close()
    assert await got.get() == MEBI


async def test_an_answer_may_come_before_the_end_of_its_request(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await anext(peer.chunks())
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framing(chunked=True, size=0) + framed(b"{}", chunked=True))
    assert await client.body(await client.head()) == b"ok"
    await settle()
    await client.send(b"0\r\n\r\n")
    assert (await client.ask("GET /ours HTTP/1.1\nHost: x"))[0].startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_engine_that_breaks_off_is_not_taken_for_the_end(world: World, chunked: bool) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked, 10) + framed(b"half", chunked))
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"GET /logs HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    assert await client.reader.read() == framed(b"half", chunked)


async def test_an_answer_that_ends_with_its_connection_gets_an_end(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\nall of it")
        peer.close()

    await world.engine_does(engine)
    head, body = await (await world.client()).ask("GET /old HTTP/1.1\nHost: x")
    assert "\r\nTransfer-Encoding: chunked" in head
    assert body == b"all of it"


async def test_an_early_refusal_reaches_a_client_that_is_still_sending(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"PUT /archive HTTP/1.1\r\nHost: x\r\n" + framing(chunked=False, size=BIG) + BLOCK)
    head = await client.head()
    assert head.startswith("HTTP/1.1 404 ")
    assert await client.body(head) == b"none"


async def test_the_engine_says_when_to_continue(world: World) -> None:
    async def engine(peer: Peer) -> None:
        assert "100-continue" in await peer.head()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(2) == b"ok"
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nseen")

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"POST /build HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await client.head() == "HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"ok")
    assert await client.body(await client.head()) == b"seen"


async def test_the_engine_may_refuse_instead(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    await world.engine_does(engine)
    client = await world.client()
    await client.send(b"POST /build HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.reader.read()).startswith(b"HTTP/1.1 403 ")


async def test_a_refusal_does_not_wait_for_a_body_that_will_not_come(world: World) -> None:
    client = await world.client()
    await client.send(b"POST /build HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.reader.read()).startswith(b"HTTP/1.1 503 ")


async def test_a_refusal_reads_past_a_small_body(world: World) -> None:
    client = await world.client()
    await client.send(b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    head = await client.head()
    await client.body(head)
    assert head.startswith("HTTP/1.1 503 ")
    assert (await client.ask("GET /ours HTTP/1.1\nHost: x"))[0].startswith("HTTP/1.1 200 ")


async def test_ours_say_when_to_continue(world: World) -> None:
    client = await world.client()
    await client.send(b"POST /ours HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.head()).startswith("HTTP/1.1 100 ")
    await client.send(b"ok")
    assert b'"size":2' in await client.body(await client.head())


async def test_a_body_over_our_limit_is_not_asked_for(world: World) -> None:
    client = await world.client()
    size = BODY_LIMIT + 1
    await client.send(b"POST /ours HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
    assert (await client.head()).startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize("chunked", [True, False])
async def test_our_bodies_have_a_limit(world: World, chunked: bool) -> None:
    for size, status in ((BODY_LIMIT, b"200"), (BODY_LIMIT + len(BLOCK), b"413")):
        client = await world.client()
        await client.send(b"POST /ours HTTP/1.1\r\nHost: x\r\n" + framing(chunked, size))
        sending = asyncio.create_task(pour(client, size, chunked))
        head = await client.head()
        assert head.split()[1].encode() == status
        if status == b"413":
            assert b"larger than 4194304 bytes, the most that /ours takes" in await client.body(head)
        await asyncio.gather(sending, return_exceptions=True)
    assert [len(request.body) for request in world.ours.asked] == [BODY_LIMIT]


async def test_a_handler_may_stream_and_is_told_when_nobody_listens(world: World) -> None:
    closed = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        try:
            yield b"one\n"
            yield b""
            yield b"two\n"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def stream(request: Request) -> Response:
        return Response(200, body=lines())

    world.ours.reply = stream
    client = await world.client()
    await client.send(b"GET /ours/events HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    chunks = client.chunks()
    assert [await anext(chunks), await anext(chunks)] == [b"one\n", b"two\n"]
    client.close()
    await closed.wait()


class Recorder:
    """A body without end that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return BLOCK

    async def aclose(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_streamed_body_is_closed_in_any_case(world: World, method: str) -> None:
    body = Recorder()

    async def stream(request: Request) -> Response:
        return Response(200, body=body)

    world.ours.reply = stream
    client = await world.client()
    await client.send(f"{method} /ours HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    client.close()
    await body.closed.wait()


async def test_a_stream_that_fails_is_not_taken_for_the_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("lost it")

    async def stream(request: Request) -> Response:
        return Response(200, body=broken())

    world.ours.reply = stream
    client = await world.client()
    await client.send(b"GET /ours HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    assert await client.reader.read() == framed(b"half", chunked=True)
    assert "lost it" in caplog.text


async def test_head_of_a_stream_reads_none_of_it(world: World) -> None:
    async def never() -> AsyncIterator[bytes]:
        pytest.fail("was read")
        yield b""

    async def stream(request: Request) -> Response:
        return Response(200, body=never())

    world.ours.reply = stream
    client = await world.client()
    await client.send(b"HEAD /ours HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.head()).startswith("HTTP/1.1 200 ")
    await world.engine_does(answers)
    assert (await client.ask("GET /after HTTP/1.1\nHost: x"))[1] == b"engine /after 0"
