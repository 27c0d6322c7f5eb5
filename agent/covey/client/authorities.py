# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to authorities outside of the cluster.  Never in it: what they speak, which one is asked, when again."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import aiohttp

from covey.client import sockets
from covey.client.managers import CLOSED
from covey.model.errors import NotSigned, Unavailable

#: Seconds for an authority to answer, and the most that it may say: the peer's numbers.
TIMEOUT = 5.0
ANSWER_LIMIT = 256 << 10


class Authorities:
    """``context`` makes the TLS context that trusts that root (PEM), and presents this node's certificate of now."""

    def __init__(self, context: Callable[[bytes], ssl.SSLContext], seconds: float = TIMEOUT) -> None:
        self._context, self._seconds = context, seconds

    async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Unavailable if there is none now, NotSigned if what answers is not to be trusted; neither repeats the URL.
        """
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=self._seconds, connect=sockets.CONNECT_TIMEOUT)
        connector = aiohttp.TCPConnector(socket_factory=sockets.make, force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    url, data=body, headers=headers, ssl=self._context(root), timeout=timeout, allow_redirects=False
                ) as answer,
            ):
                return answer.status, await _bounded(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> NotSigned | Unavailable:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return NotSigned(
                f"it is not to be trusted: {error.certificate_error} (its certificate must be of the root that it "
                "signs for, and name the host in the URL)"
            )
        if isinstance(error, TimeoutError):
            return Unavailable(f"it does not answer within {self._seconds:g} s")
        if isinstance(error, CLOSED) and not isinstance(error, aiohttp.ClientConnectorError):
            return Unavailable(
                f"it ends the connection ({error or type(error).__name__}): does it accept certificates of this "
                "cluster's root?"
            )
        return Unavailable(f"it does not answer: {error or type(error).__name__}")


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise NotSigned(f"its answer is larger than {ANSWER_LIMIT} bytes")
    return bytes(body)
