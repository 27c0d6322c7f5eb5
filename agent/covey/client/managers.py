# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to managers' cluster servers: join, renew, votes, control calls passed on.

Whatever goes wrong comes out as an error of our tree: Unavailable if it may go better elsewhere or later, else what
the manager said.  Never in it: the session, which is ``channel``.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from yarl import URL

from covey.client import sockets, wire
from covey.model.admission import Admission, Wire
from covey.model.errors import CoveyError, Forbidden, NotLeader, Unavailable

Context = Callable[[], ssl.SSLContext]
T = TypeVar("T")

#: For a manager to answer; what it passes on to the leader may wait for an election.
TIMEOUT = 15.0
ROOT_TIMEOUT = 5.0
ROOT_LIMIT = 64 << 10
#: A vote is given only after the leader has tried the newcomer's Raft port.
RAFT_TIMEOUT = 30.0

#: OpenSSL's words for a certificate that does not hold yet, and one that does no more.
_NOT_NOW = (9, 10)
#: The other end has ended the connection, perhaps since it does not accept our certificate.
CLOSED = (ssl.SSLError, ConnectionResetError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A control call as it was made; ``target`` is path and query."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Managers:
    """A client of cluster servers.

    ``context`` is asked before each call; contexts of ``security.tls`` hold within the handshake that the other end is
    a manager of the cluster.  While it gives the same context, connections are used again.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections kept; a later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch_root(self, address: str, check: Callable[[bytes], None]) -> bytes:
        """The root certificate (PEM) that the manager presents, once ``check`` did not raise.

        The one call that may be made with a context that trusts nobody.
        """
        answer = await self._send(address, wire.ROOT, Call("GET", ""), ROOT_TIMEOUT, ROOT_LIMIT)
        pem = _ok(address, answer).body
        check(pem)
        return pem

    async def join(self, address: str, call: wire.JoinCall) -> Admission:
        """Be let in by a token; with a context that is pinned to the root checked before."""
        return await self._post(address, wire.JOIN, call, Admission)

    async def renew(self, address: str, csr: bytes) -> Admission:
        """A new certificate for this node."""
        return await self._post(address, wire.RENEW, wire.RenewCall(csr=csr.decode("ascii")), Admission)

    async def raft_members(self, address: str) -> wire.RaftMembers:
        """The voters, whom a manager must know before it asks to be one of them."""
        answer = _ok(address, await self._send(address, wire.RAFT_MEMBERS, Call("GET", ""), TIMEOUT))
        return wire.decode(answer.body, wire.RaftMembers)

    async def raft_join(self, address: str, manager_address: str, raft_address: str) -> Mapping[str, str]:
        """Get this manager its vote; the Raft addresses of all voters by node id."""
        body = wire.RaftJoinCall(addr=manager_address, raft_addr=raft_address)
        return (await self._post(address, wire.RAFT_JOIN, body, wire.RaftMembers, RAFT_TIMEOUT)).members

    async def raft_leave(self, address: str) -> None:
        """Give this manager's vote up."""
        _ok(address, await self._send(address, wire.RAFT_LEAVE, Call("POST", ""), RAFT_TIMEOUT))

    async def forward(self, address: str, call: Call, seconds: float = TIMEOUT) -> Answer:
        """The answer of that manager to a control call, an error's body included."""
        return await self._send(address, wire.API, call, seconds)

    async def relay(self, address: str, call: Call, seconds: float = RAFT_TIMEOUT) -> Answer:
        """As ``forward``, for a call to the cluster server itself."""
        return await self._send(address, "", call, seconds)

    async def _post(self, address: str, path: str, body: Wire, kind: type[T], seconds: float = TIMEOUT) -> T:
        call = Call("POST", "", (("Content-Type", "application/json"),), wire.encode(body))
        answer = _ok(address, await self._send(address, path, call, seconds))
        return wire.decode(answer.body, kind)

    async def _send(
        self, address: str, prefix: str, call: Call, seconds: float, limit: int = wire.ANSWER_LIMIT
    ) -> Answer:
        url = URL(f"https://{sockets.with_port(address)}{prefix}{call.target}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=seconds, connect=sockets.CONNECT_TIMEOUT)
        try:
            async with self._http().request(
                call.method,
                url,
                data=call.body,
                headers=list(call.headers),
                ssl=self._context(),
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise Unavailable(f"the answer of manager {address} is larger than {limit} bytes")
                headers = tuple(answer.headers.items())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise failed(address, error) from error
        return Answer(answer.status, headers, bytes(body))

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, socket_factory=sockets.make)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


async def try_each(addresses: Sequence[str], call: Callable[[str], Awaitable[T]]) -> T:
    """The first answer; another manager is asked only where one cannot answer now.  Unavailable if none can."""
    problems: list[CoveyError] = []
    for address in dict.fromkeys(addresses):
        try:
            return await call(address)
        except (Unavailable, NotLeader) as problem:
            log.info("manager %s: %s", address, problem)
            problems.append(problem)
    if not problems:
        raise Unavailable("no manager's address is known")
    raise Unavailable("; ".join(map(str, problems)))


def failed(address: str, error: Exception) -> CoveyError:
    """What it means that a connection to a manager failed so."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        if isinstance(reason, ssl.SSLCertVerificationError) and reason.verify_code in _NOT_NOW:
            return Unavailable(
                f"the certificate of manager {address} does not hold by this host's clock ({reason.verify_message}): "
                "see `timedatectl` here and there; if both clocks are right, that manager was away for longer than its "
                "certificate holds"
            )
        return Forbidden(
            f"what answers at {address} is not a manager of this cluster: {reason}; is the address "
            "that of another cluster?"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return Unavailable(f"what answers at {address} does not speak TLS as a manager does: {error.os_error}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"manager {address} does not answer in time")
    if isinstance(error, CLOSED) and not isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable(
            f"manager {address} closed the connection ({error or type(error).__name__}); it is stopping, or does not "
            "accept this node's certificate (if that has not ended: do both clocks agree?)"
        )
    return Unavailable(f"manager {address} does not answer: {error or type(error).__name__}")


def _ok(address: str, answer: Answer) -> Answer:
    """The answer if it is no failure, else raises what the manager said."""
    if answer.status < 300:
        return answer
    error = wire.failure(answer.status, answer.body)
    log.debug("manager %s: %s", address, error)
    raise error
