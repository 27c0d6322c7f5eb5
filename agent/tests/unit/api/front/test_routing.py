# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers what: per request, with or without a version, while the engine is up or down."""

import asyncio
import os

import pytest

from covey.api.http import Headers, Proxied, Request, Response

from .conftest import Peer, World, answers, settle

GET = "GET {} HTTP/1.1\nHost: docker"


async def test_requests_of_one_connection_go_both_ways_in_turn(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    bodies = [(await client.ask(GET.format(path)))[1] for path in ("/ours/a", "/theirs", "/ours/b", "/theirs?x=1")]
    assert bodies == [
        b'{"path":"/ours/a","size":0}\n',
        b"engine /theirs 0",
        b'{"path":"/ours/b","size":0}\n',
        b"engine /theirs?x=1 0",
    ]


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    paths = ["/theirs/1", "/ours/2", "/theirs/3", "/ours/4"]
    await client.send("".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths).encode())
    bodies = [await client.body(await client.head()) for _ in paths]
    assert [path.encode() in body for path, body in zip(paths, bodies, strict=True)] == [True] * 4


async def test_a_pipelined_body_stays_with_its_request(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    for path in ("/ours/1", "/theirs/1"):
        client.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /".encode())
    assert b'"size":5' in await client.body(await client.head())
    assert await client.body(await client.head()) == b"engine /theirs/1 5"


async def test_a_handler_sees_the_whole_request(world: World) -> None:
    client = await world.client()
    await client.send(
        b'POST /v1.41/ours/a%2Fb%20c?filters={"a":1}&x=1&x=2&y HTTP/1.1\r\nHost: docker\r\n'
        b"X-Registry-Auth: s3cret\r\nContent-Length: 4\r\n\r\nbody"
    )
    await client.body(await client.head())
    (request,) = world.ours.asked
    assert (request.method, request.path, request.api_version) == ("POST", "/ours/a/b c", "1.41")
    assert request.query.items() == (("filters", '{"a":1}'), ("x", "1"), ("x", "2"), ("y", ""))
    assert (request.headers.get("x-registry-auth"), request.body) == ("s3cret", b"body")
    assert request.credentials is not None
    assert request.credentials.pid == os.getpid()
    assert "s3cret" not in repr(request)


async def test_the_engine_gets_the_path_as_the_client_sent_it(world: World) -> None:
    await world.engine_does(answers)
    _, body = await (await world.client()).ask(GET.format("/v1.41/theirs%2F..?a=%20b"))
    assert body == b"engine /v1.41/theirs%2F..?a=%20b 0"


async def test_without_an_engine_ours_go_on(world: World) -> None:
    client = await world.client()
    head, body = await client.ask(GET.format("/containers/json"))
    assert head.startswith("HTTP/1.1 503 ")
    assert body.startswith(b'{"message":"the container engine does not answer on /')
    assert (await client.ask(GET.format("/v1.99/ours")))[0].startswith("HTTP/1.1 200 ")
    await world.engine_does(answers)
    assert (await client.ask(GET.format("/back")))[1] == b"engine /back 0"


@pytest.mark.parametrize("reads", [True, False])
async def test_an_engine_that_says_nothing_is_down(world: World, reads: bool) -> None:
    async def hangs_up(engine: Peer) -> None:
        if reads:
            await engine.head()
        engine.close()

    await world.engine_does(hangs_up)
    head, body = await (await world.client()).ask(GET.format("/containers/json"))
    assert head.startswith("HTTP/1.1 503 ")
    assert b"without an answer" in body


async def test_versions_outside_the_engines_range_are_refused_in_its_words(world: World) -> None:
    async def engine(peer: Peer) -> None:
        await peer.head()
        text = b'{"ApiVersion":"1.41","MinAPIVersion":"1.12"}'
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    said = {version: await client.ask(GET.format(f"/v{version}/ours")) for version in ("1.42", "1.11", "1.41", "1.x")}
    assert said["1.41"][0].startswith("HTTP/1.1 200 ")
    assert said["1.42"][0].startswith("HTTP/1.1 400 ")
    assert b"client version 1.42 is too new. Maximum supported API version is 1.41" in said["1.42"][1]
    assert (
        b"client version 1.11 is too old. Minimum supported API version is 1.12, "
        b"please upgrade your client to a newer version"
    ) in said["1.11"][1]
    assert world.connections == 2  # one look at its version, and /v1.x/ours, which is no version of ours


async def test_what_only_we_could_know_is_not_asked_of_the_engine(world: World) -> None:
    await world.engine_does(answers)
    head, body = await (await world.client()).ask(GET.format("/covey/v1/nonesuch"))
    assert head.startswith("HTTP/1.1 404 ")
    assert b"GET /covey/v1/nonesuch is not a call of this release" in body
    assert world.connections == 0


async def test_a_proxied_head_can_be_altered(world: World) -> None:
    def swarm(answer: Proxied) -> Headers:
        return answer.headers.replaced("Swarm", "active/manager").replaced("Content-Length", "99")

    world.hook = swarm
    await world.engine_does(answers)
    client = await world.client()
    head, body = await client.ask(GET.format("/_ping"))
    assert "\r\nSwarm: active/manager\r\n" in head
    assert "\r\nApi-Version: 1.41\r\n" in head
    assert body == b"engine /_ping 0"


async def test_head_has_the_length_and_no_body(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    for path, length in (("/ours", 26), ("/_ping", 15)):
        await client.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert f"\r\nContent-Length: {length}\r\n" in await client.head()
    assert (await client.ask(GET.format("/after")))[1] == b"engine /after 0"


async def test_fields_of_one_connection_are_not_passed_on(world: World) -> None:
    seen: list[str] = []

    async def engine(peer: Peer) -> None:
        seen.append(await peer.head())
        await peer.send(
            b"HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-Kept: 2\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )
        peer.close()

    await world.engine_does(engine)
    client = await world.client()
    head, _ = await client.ask(GET.format("/a") + "\nConnection: X-Mine\nX-Mine: 1\nTE: trailers\nX-Kept: 2")
    assert "X-Kept: 2" in head
    assert "Hop" not in head
    assert "Keep-Alive" not in head
    assert "X-Kept: 2" in seen[0]
    assert not {"X-Mine", "TE:"} & set(seen[0].split())
    assert (await client.ask(GET.format("/ours")))[0].startswith("HTTP/1.1 200 ")


async def test_an_old_client_needs_no_host(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    await client.send(b"GET /theirs HTTP/1.0\r\n\r\n")
    assert (await client.reader.read()).endswith(b"engine /theirs 0")


async def test_nonsense_is_answered_and_ends_the_connection(world: World) -> None:
    client = await world.client()
    await client.send(b"\x16\x03\x01 not http\r\n\r\n")
    answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not an HTTP request" in answer


async def test_half_a_request_is_answered_as_far_as_it_goes(world: World) -> None:
    client = await world.client()
    await client.send(b"GET /ours HTTP/1.1\r\nHo")
    client.writer.write_eof()
    assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_an_endless_head_is_refused(world: World) -> None:
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_100_000)
    assert (await client.reader.read()).startswith(b"HTTP/1.1 431 ")


async def test_contradictory_lengths_are_refused(world: World) -> None:
    await world.engine_does(answers)
    client = await world.client()
    await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
    assert world.connections == 0


async def test_chunks_overrule_a_length_on_both_sides(world: World) -> None:
    async def engine(peer: Peer) -> None:
        head = await peer.head()
        assert "content-length" not in head.lower()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + await peer.body(head))

    await world.engine_does(engine)
    client = await world.client()
    await client.send(
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    assert await client.body(await client.head()) == b"abc"


async def test_what_a_handler_raises_is_explained(world: World) -> None:
    async def fails(request: Request) -> Response:
        raise ValueError("so what")

    world.ours.reply = fails
    client = await world.client()
    head, body = await client.ask(GET.format("/ours"))
    assert (head[:13], body) == ("HTTP/1.1 500 ", b'{"message":"explained: so what"}\n')
    world.ours.reply = None
    assert (await client.ask(GET.format("/ours")))[0].startswith("HTTP/1.1 200 ")


async def test_an_answer_without_content_has_no_length(world: World) -> None:
    async def removed(request: Request) -> Response:
        return Response(204)

    world.ours.reply = removed
    client = await world.client()
    await client.send(b"DELETE /ours HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "content-length" not in (await client.head()).lower()
    world.ours.reply = None
    assert (await client.ask(GET.format("/ours")))[0].startswith("HTTP/1.1 200 ")


async def test_a_read_ends_with_its_client_and_a_write_does_not(world: World) -> None:
    started, release = asyncio.Event(), asyncio.Event()
    ends: asyncio.Queue[str] = asyncio.Queue()

    async def slow(request: Request) -> Response:
        started.set()
        try:
            await release.wait()
            await ends.put(f"{request.method} done")
        except asyncio.CancelledError:
            await ends.put(f"{request.method} given up")
            raise
        return Response(200)

    world.ours.reply = slow
    for method, expected in (("GET", "GET given up"), ("POST", "POST done")):
        started.clear()
        client = await world.client()
        await client.send(f"{method} /ours HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await started.wait()
        client.close()
        if method == "POST":
            await settle()
            release.set()
        assert await ends.get() == expected


async def test_a_client_that_only_closes_its_sending_side_gets_its_answer(world: World) -> None:
    await world.engine_does(answers)
    for path in ("/ours", "/theirs"):
        client = await world.client()
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.writer.write_eof()
        assert (await client.reader.read()).startswith(b"HTTP/1.1 200 ")
