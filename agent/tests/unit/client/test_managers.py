# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that find no manager, or not ours: each ends in an error that says so.  Good calls are the server's tests."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from authority import Authority

from covey.client import sockets
from covey.client.channel import Connector
from covey.client.managers import Call, Managers, try_each
from covey.model.errors import Forbidden, InvalidArgument, NotLeader, Unavailable
from covey.model.ids import to_id
from covey.model.session import Heartbeat
from covey.model.spec import Role
from covey.security import tls


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority(to_id(900))


@pytest.fixture(scope="module")
def foreign() -> Authority:
    return Authority(to_id(901))


class Servers:
    """Servers that hold no cluster server, closed at the end."""

    def __init__(self) -> None:
        self._closers: list = []

    async def raw(self, talk, context: ssl.SSLContext | None = None) -> str:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
        self._closers.append(_close(server))
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def web(self, answer, context: ssl.SSLContext) -> str:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        server = await asyncio.get_running_loop().create_server(
            runner.server, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=0.1
        )
        self._closers += [_close(server), runner.cleanup()]
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        for closer in self._closers:
            await closer


async def _close(server: asyncio.Server) -> None:
    server.close()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    servers = Servers()
    yield servers
    await servers.close()


@pytest.fixture
async def worker(ours) -> AsyncIterator[Managers]:
    context = tls.client_context(ours.identity(3, Role.WORKER))
    async with Managers(lambda: context) as managers:
        yield managers


@pytest.fixture
async def connector(ours) -> AsyncIterator[Connector]:
    connector = Connector(lambda: tls.client_context(ours.identity(3, Role.WORKER)))
    yield connector
    await connector.close()


def manager(authority: Authority, role: Role = Role.MANAGER) -> ssl.SSLContext:
    return tls.server_context(authority.identity(1, role), "optional")


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello " + request.raw_path)


async def test_a_manager_of_ours_is_heard_and_one_of_another_cluster_is_not(servers, worker, ours, foreign):
    assert (await worker.forward(await servers.web(hello, manager(ours)), Call("GET", "/x"))).status == 200
    with pytest.raises(Forbidden, match="not a manager of this cluster"):
        await worker.forward(await servers.web(hello, manager(foreign)), Call("GET", "/x"))


async def test_a_worker_that_poses_as_a_manager_is_told_nothing(servers, worker, connector, ours):
    address = await servers.web(hello, manager(ours, Role.WORKER))
    with pytest.raises(Forbidden, match="not a manager of this cluster"):
        await worker.forward(address, Call("GET", "/x"))
    with pytest.raises(ConnectionError, match="not a manager of this cluster"):
        await connector.connect(address)


async def test_a_certificate_out_of_its_time_is_named_as_that_and_another_manager_may_do(servers, worker, ours):
    away = tls.server_context(ours.identity(1, Role.MANAGER, lifetime=10.0, begins=-20.0), "optional")
    address = await servers.web(hello, away)
    with pytest.raises(Unavailable, match=r"does not hold by this host's clock .*expired.*timedatectl"):
        await worker.forward(address, Call("GET", "/x"))
    ahead = tls.server_context(ours.identity(1, Role.MANAGER, begins=7200.0), "optional")
    with pytest.raises(Unavailable, match=r"by this host's clock .*not yet valid.*timedatectl"):
        await worker.forward(await servers.web(hello, ahead), Call("GET", "/x"))


async def test_clocks_may_differ_by_nearly_an_hour(servers, worker, ours):
    ahead = tls.server_context(ours.identity(1, Role.MANAGER, begins=3500.0), "optional")
    assert (await worker.forward(await servers.web(hello, ahead), Call("GET", "/x"))).status == 200


async def test_a_node_whose_certificate_ended_is_let_in_nowhere(servers, ours):
    context = tls.client_context(ours.identity(3, Role.WORKER, lifetime=10.0, begins=-20.0))
    async with Managers(lambda: context) as late:
        with pytest.raises(Unavailable, match=r"does not accept this node's certificate .*do both clocks agree"):
            await late.renew(await servers.web(hello, manager(ours)), b"csr")
    connector = Connector(lambda: context)
    with pytest.raises(ConnectionError, match="does not accept this node's certificate"):
        await connector.connect(await servers.web(hello, manager(ours)))
    await connector.close()


async def test_nobody_there(worker, connector):
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"):
        await worker.renew("127.0.0.1:1", b"csr")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 does not answer"):
        await connector.connect("127.0.0.1:1")


async def test_something_else_there(servers, worker, connector):
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n" * 10)
        writer.close()

    address = await servers.raw(greet)
    with pytest.raises(Unavailable, match="does not speak TLS"):
        await worker.renew(address, b"csr")
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        await connector.connect(address)


async def test_somebody_silent_there(servers, worker, connector):
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    address = await servers.raw(wait)
    began = asyncio.get_running_loop().time()
    problems = await asyncio.gather(worker.renew(address, b"csr"), connector.connect(address), return_exceptions=True)
    assert isinstance(problems[0], Unavailable)
    assert isinstance(problems[1], ConnectionError)
    assert all("in time" in str(problem) for problem in problems)
    assert asyncio.get_running_loop().time() - began >= sockets.CONNECT_TIMEOUT


async def test_an_answer_too_large_is_cut_off(servers, worker, ours):
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    with pytest.raises(Unavailable, match="larger than 65536 bytes"):
        await worker.fetch_root(await servers.web(flood, manager(ours)), lambda _: None)


async def test_a_target_is_passed_on_unchanged(servers, worker, ours):
    address = await servers.web(hello, manager(ours))
    answer = await worker.forward(address, Call("GET", "/v1.41/services/a%2Fb?filters=%7B%22x%22%3A1%7D&a=+%20"))
    assert answer.body == b"hello /v1/api/v1.41/services/a%2Fb?filters=%7B%22x%22%3A1%7D&a=+%20"


async def test_connections_are_kept_and_sockets_notice_a_vanished_peer(servers, worker, ours):
    transports = set()

    async def note(request: web.Request) -> web.Response:
        transports.add(request.transport)
        return web.Response()

    address = await servers.web(note, manager(ours))
    for _ in range(3):
        await worker.forward(address, Call("GET", "/x"))
    assert len(transports) == 1
    made = sockets.make((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ()))
    with made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_session_that_is_no_web_socket_is_refused(servers, connector, ours):
    with pytest.raises(ConnectionError, match="refused the session: HTTP 200"):
        await connector.connect(await servers.web(hello, manager(ours)))


async def test_a_lost_session_ends_in_a_connection_error(servers, connector, ours):
    async def drop(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.receive()
        request.transport.abort()
        return response

    channel = await connector.connect(await servers.web(drop, manager(ours)))
    await channel.send(Heartbeat())
    with pytest.raises(ConnectionError, match="ended the session"):
        await channel.receive()
    await channel.close()
    await channel.close()
    with pytest.raises(ConnectionError):
        await channel.send(Heartbeat())


async def test_another_manager_is_asked_only_where_one_cannot_answer():
    asked = []

    async def call(address: str) -> str:
        asked.append(address)
        if address == "down":
            raise Unavailable("down does not answer")
        if address == "behind":
            raise NotLeader(None)
        if address == "strict":
            raise InvalidArgument("no such thing")
        return address

    assert await try_each(["down", "down", "behind", "up", "later"], call) == "up"
    assert asked == ["down", "behind", "up"]
    with pytest.raises(InvalidArgument):
        await try_each(["strict", "up"], call)
    with pytest.raises(Unavailable, match="down does not answer; this manager is not the leader"):
        await try_each(["down", "behind"], call)
    with pytest.raises(Unavailable, match="no manager's address"):
        await try_each([], call)
