# SPDX-License-Identifier: GPL-3.0-or-later
"""One request answered by a handler of ours.

A read is given up when its client goes away; a write runs to its end, since half of one is worse than one unasked for.
Never in it: which handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import h11

from covey.api.front.channel import Channel, encoded, end_to_end
from covey.api.http import Handler, Headers, Request, Response

DECLINED_LIMIT = 256 * 1024
READS = frozenset({"GET", "HEAD"})
BODILESS = frozenset({204, 304})

Explain = Callable[[Exception], Response]
_Result = TypeVar("_Result")


class ClientGone(Exception):
    """Nobody is left to answer."""


class _TooLarge(Exception):
    """The request's body is over the limit."""


async def answer(client: Channel, gone: asyncio.Event, handler: Handler, request: Request, explain: Explain) -> None:
    """Read the body, ask the handler, send what it says; ClientGone or OSError when there is nobody to send it to."""
    limit = handler.body_limit(request.method, request.path)
    try:
        body = await _read_body(client, request, limit)
    except _TooLarge:
        message = f"the request's body is larger than {limit} bytes, the most that {request.path} takes"
        await respond(client, gone, request.method, Response.error(413, message))
        return
    response = await _handled(gone, handler, replace(request, body=body), explain)
    await respond(client, gone, request.method, response)


async def respond(client: Channel, gone: asyncio.Event, method: str, response: Response) -> None:
    """Send a response, framing it; a streamed body is closed however this ends."""
    bodiless = method == "HEAD" or response.status in BODILESS
    if isinstance(response.body, bytes):
        await client.send(_head(response, len(response.body)))
        if not bodiless:
            await client.send(h11.Data(data=response.body))
    else:
        try:
            await client.send(_head(response, None))
            if not bodiless:
                await _unless_gone(gone, _stream(client, response.body))
        finally:
            await _close(response.body)
    await client.send(h11.EndOfMessage())


async def decline(client: Channel, gone: asyncio.Event, method: str, response: Response) -> None:
    """Answer without having looked at the body, read past if it is small, so that the next request can come."""
    withheld = client.http.they_are_waiting_for_100_continue
    await respond(client, gone, method, response)
    unread = 0
    while unread <= DECLINED_LIMIT and not withheld:
        event = await client.receive()
        if not isinstance(event, h11.Data):
            return
        unread += len(event.data)


def _head(response: Response, length: int | None) -> h11.Response:
    headers = Headers(end_to_end(response.headers)).replaced("Content-Length")
    if length is not None and response.status not in BODILESS:
        headers = headers.replaced("Content-Length", str(length))
    return h11.Response(status_code=response.status, headers=encoded(headers.items()))


async def _stream(client: Channel, body: AsyncIterator[bytes]) -> None:
    async for chunk in body:
        await client.send(h11.Data(data=chunk))


async def _close(body: AsyncIterator[bytes]) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()


async def _read_body(client: Channel, request: Request, limit: int) -> bytes:
    announced = request.headers.get("Content-Length")
    if announced.isdecimal() and int(announced) > limit:
        raise _TooLarge
    if client.http.they_are_waiting_for_100_continue:
        await client.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
    body = bytearray()
    while isinstance(event := await client.receive(), h11.Data):
        body += event.data
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)


async def _handled(gone: asyncio.Event, handler: Handler, request: Request, explain: Explain) -> Response:
    try:
        if request.method in READS:
            return await _unless_gone(gone, handler.handle(request))
        return await handler.handle(request)
    except ClientGone:
        raise
    except Exception as error:  # noqa: BLE001 -- the boundary: whatever a handler raises, the client gets an answer
        return explain(error)


async def _unless_gone(gone: asyncio.Event, work: Coroutine[Any, Any, _Result]) -> _Result:
    task = asyncio.create_task(work, name="front handler")
    watch = asyncio.create_task(gone.wait(), name="front client gone")
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
