# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own calls to the engine."""

import asyncio
from contextlib import aclosing

import pytest

from covey.api.front import engine as room
from covey.api.front.engine import UNKNOWN_VERSIONS, ApiVersions
from covey.model import errors

from .conftest import Peer, Script, World, answers


def says(status: str, body: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))
        peer.close()

    return script


async def test_an_answer_is_fetched_whole(world: World) -> None:
    await world.engine_does(answers)
    answer = await world.engine.fetch("POST", "/networks/create?x=1", [("X-A", "b")], b"body")
    assert (answer.status, answer.body) == (200, b"engine /networks/create?x=1 4")
    assert answer.headers.get("api-version") == "1.41"


async def test_head_is_fetched_without_waiting_for_a_body(world: World) -> None:
    await world.engine_does(answers)
    assert (await world.engine.fetch("HEAD", "/_ping")).body == b""


async def test_json_is_decoded(world: World) -> None:
    await world.engine_does(says("200 OK", b'{"Name": "a"}'))
    assert await world.engine.get_json("/info") == {"Name": "a"}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("404 Not Found", b'{"message": "no such thing"}', "^no such thing$"),
        ("500 Oops", b"plain words", "^plain words$"),
        ("500 Oops", b"", "status 500 without a word"),
        ("200 OK", b"<html>", "answered /info with no JSON"),
    ],
)
async def test_a_refusal_is_in_the_engines_words(world: World, status: str, body: bytes, message: str) -> None:
    await world.engine_does(says(status, body))
    with pytest.raises(errors.EngineError, match=message):
        await world.engine.get_json("/info")


async def test_no_engine_is_down(world: World) -> None:
    with pytest.raises(errors.EngineDown, match="does not answer on"):
        await world.engine.get_json("/info")


async def test_an_engine_that_breaks_off_is_down(world: World) -> None:
    async def half(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        peer.close()

    await world.engine_does(half)
    with pytest.raises(errors.EngineDown, match="broke the connection off"):
        await world.engine.get_json("/info")


async def test_a_silent_engine_is_down(world: World) -> None:
    async def silent(peer: Peer) -> None:
        await peer.reader.read()

    await world.engine_does(silent)
    with pytest.raises(errors.EngineDown, match=r"did not answer GET /info within 0\.01 seconds"):
        await world.engine.fetch("GET", "/info?secret=1", timeout=0.01)


async def test_an_answer_beyond_reason_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ANSWER_LIMIT", 100)
    await world.engine_does(says("200 OK", b"x" * 101))
    with pytest.raises(errors.EngineError, match="larger than 100 bytes"):
        await world.engine.get_json("/info")


async def test_an_endless_answer_is_streamed_until_we_leave(world: World) -> None:
    left = asyncio.Event()

    async def events(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n")
        assert await peer.reader.read() == b""
        left.set()

    await world.engine_does(events)
    async with world.engine.stream("GET", "/events") as answer, aclosing(answer.chunks) as chunks:  # type: ignore[type-var]
        assert answer.status == 200
        assert [await anext(chunks), await anext(chunks)] == [b"a", b"b"]
    await left.wait()


async def test_versions_are_asked_for_once_in_a_while(world: World) -> None:
    await world.engine_does(says("200 OK", b'{"ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux"}'))
    assert await world.engine.versions() == ApiVersions("1.24", "1.51")
    assert await world.engine.refusal("1.51") is None
    assert "too new" in str(await world.engine.refusal("1.52"))
    assert world.connections == 1


async def test_unknown_versions_refuse_nobody(world: World) -> None:
    assert await world.engine.versions() == UNKNOWN_VERSIONS
    assert await world.engine.refusal("1.99") is None
