# SPDX-License-Identifier: GPL-3.0-or-later
"""One request passed on to the local engine and its answer passed back, as they stream; hijacks included.

Request and answer flow at the same time and nothing is held: each chunk is written before the next is read.  Never in
it: knowledge of paths.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import h11

from covey.api.front.channel import Channel, Event, Pairs, decoded, encoded, end_to_end, is_chunked
from covey.api.front.sockets import Hangups
from covey.api.front.splice import End, splice
from covey.api.http import HeaderHook, Headers, Proxied, Request
from covey.model import errors

RAW_STREAMS = ("application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream")
SWITCHING = 101

PATIENCE = 0.5  # for the rest of a request whose answer is already complete

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class PeerLost(Exception):
    """One end broke off after the answer had begun: only closing the other can tell it."""


@dataclass(frozen=True, slots=True)
class _Hijack:
    """The exchange has become a raw stream; `head` begins the client's side of it."""

    head: bytes


class Relay:
    """One exchange between a client and the engine.  The caller owns and closes both channels."""

    def __init__(self, client: Channel, client_gone: asyncio.Event, engine: Channel, hook: HeaderHook | None) -> None:
        self._client = client
        self._client_gone = client_gone
        self._engine = engine
        self._hook = hook
        self._answering = False
        self._withheld = False  # the client was never told to send its body, and will not

    async def run(self, head: h11.Request, request: Request, hangups: Hangups) -> None:
        """Until the answer is complete.  EngineDown while there is no answer yet, PeerLost from then on."""
        hijack = await self._exchange(head, request)
        if hijack is None:
            return
        with hangups.watching(self._engine.socket) as engine_gone:
            await self._client.send_raw(hijack.head)
            await splice(
                End(self._client.socket, self._client_gone, self._client.unparsed),
                End(self._engine.socket, engine_gone, self._engine.unparsed),
            )

    async def _exchange(self, head: h11.Request, request: Request) -> _Hijack | None:
        upload = _task(self._upload(head), "upload")
        download = _task(self._download(request, upload), "download")
        leaving = _task(self._leaving(upload), "client gone")
        try:
            await asyncio.wait({download, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not download.done():
                leaving.result()
                raise PeerLost("the client went away")
            hijack = download.result()
            if not self._withheld:
                await asyncio.wait({upload}, timeout=PATIENCE)
            return hijack
        except h11.RemoteProtocolError as error:
            if self._answering:
                raise PeerLost(f"the engine broke off its answer: {error}") from error
            raise errors.EngineDown(
                f"the container engine broke the connection off without an answer: {error}"
            ) from error
        except OSError as error:
            raise PeerLost("the client went away") from error
        finally:
            for task in (upload, download, leaving):
                task.cancel()
            await asyncio.gather(upload, download, leaving, return_exceptions=True)

    async def _upload(self, head: h11.Request) -> None:
        """Pass the request on.  An engine that takes no more is no failure: its answer is on the way."""
        try:
            await self._engine.send(_request_head(head))
            event: Event = head
            while not isinstance(event, h11.EndOfMessage):
                event = await self._client.receive()
                if not isinstance(event, h11.Data | h11.EndOfMessage):
                    raise PeerLost("the client broke its request off")
                await self._engine.send(event)
        except OSError as error:
            log.debug("the engine takes no more of the request: %s", error)
        except h11.RemoteProtocolError as error:
            raise PeerLost(f"the client broke its request off: {error}") from error

    async def _leaving(self, upload: asyncio.Task[None]) -> None:
        """Return once the client is gone and all it sent has been passed on; raise what went wrong with that."""
        await asyncio.shield(upload)
        await self._client_gone.wait()

    async def _download(self, request: Request, upload: asyncio.Task[None]) -> _Hijack | None:
        event = await self._engine.receive()
        while isinstance(event, h11.InformationalResponse):
            if event.status_code == SWITCHING:
                await upload
                return _Hijack(self._client.http.send(event) or b"")
            await self._client.send(event)
            event = await self._engine.receive()
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("it closed")
        headers = decoded(event.headers.raw_items())
        if _is_raw_stream(event, headers):
            await upload
            return _Hijack(_raw_head(event))
        await self._answer(event, self._altered(request, event.status_code, headers))
        return None

    async def _answer(self, response: h11.Response, headers: Pairs) -> None:
        self._answering = True
        self._withheld = self._client.http.they_are_waiting_for_100_continue
        await self._client.send(
            h11.Response(status_code=response.status_code, reason=response.reason, headers=encoded(headers))
        )
        while isinstance(event := await self._engine.receive(), h11.Data):
            await self._client.send(event)
        await self._client.send(h11.EndOfMessage())

    def _altered(self, request: Request, status: int, headers: Headers) -> Pairs:
        passed = end_to_end(headers)
        if self._hook is None:
            return passed
        framing = [pair for pair in passed if pair[0].lower() == "content-length"]
        plain = Headers(pair for pair in passed if pair[0].lower() != "content-length")
        altered = self._hook(Proxied(request.method, request.path, status, plain))
        return [*end_to_end(altered.replaced("Content-Length")), *framing]


def _request_head(head: h11.Request) -> h11.Request:
    headers = decoded(head.headers.raw_items())
    passed = end_to_end(headers)
    if is_chunked(headers):
        passed = [pair for pair in passed if pair[0].lower() != "content-length"]
        passed.append(("Transfer-Encoding", "chunked"))
    if "Upgrade" in headers:
        passed += [("Connection", "Upgrade"), ("Upgrade", headers.get("Upgrade"))]
    if "Host" not in headers:  # HTTP/1.0 does without, and what we send is 1.1
        passed.append(("Host", "docker"))
    return h11.Request(method=head.method, target=head.target, headers=encoded(passed))


def _is_raw_stream(response: h11.Response, headers: Headers) -> bool:
    """A hijack without an upgrade: an answer of a raw type that nothing frames.  The logs have the type, but framed."""
    framed = "Content-Length" in headers or is_chunked(headers)
    content = headers.get("Content-Type").partition(";")[0].strip().lower()
    return response.status_code == 200 and content in RAW_STREAMS and not framed


def _raw_head(response: h11.Response) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (response.status_code, response.reason)]
    lines += [b"%s: %s" % pair for pair in response.headers.raw_items()]
    return b"\r\n".join([*lines, b"", b""])


def _task(work: Coroutine[Any, Any, _Result], name: str) -> asyncio.Task[_Result]:
    return asyncio.create_task(work, name=f"relay {name}")
