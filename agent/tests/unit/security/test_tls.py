# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets through the cluster's TLS, over real loopback connections: each refusal beside the same call accepted."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from covey.model import errors
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security import ca, tls, tokens
from covey.security.certificate import fingerprint
from covey.security.identity import Identity

from .conftest import DAY, Cluster


@dataclass
class Seen:
    """What the server learnt of each client that got through."""

    peers: list[Any] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


Check = Callable[[ssl.SSLObject], Any]


async def served(
    server: ssl.SSLContext, client: ssl.SSLContext | None, check: Check, seen: Seen
) -> tuple[bytes, ssl.SSLObject | None]:
    """One client says hello to a server that answers whoever passes `check`; the answer and the client's side."""
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.peers.append(check(writer.get_extra_info("ssl_object")))
            writer.write(b"welcome")
        except errors.Forbidden as error:
            seen.refusals.append(str(error))
            writer.write(b"403")
        await writer.drain()
        writer.close()
        done.set()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            if client is None:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
            return await reader.read(), writer.get_extra_info("ssl_object")
        finally:
            writer.close()


async def refused(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Assert that this client learns nothing and reaches nobody; why, as the server's own handshake says it."""
    seen = Seen()
    try:
        answer, _ = await served(server, client, tls.peer, seen)
    except (ConnectionResetError, ssl.SSLError):
        answer = b""
    assert (answer, seen) == (b"", Seen())
    with pytest.raises(ssl.SSLError) as caught:
        handshake(server, client)
    return str(caught.value).lower().replace("_", " ")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Both ends in memory, until both are done; raises what the server raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    callee = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (caller, callee):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()


@pytest.fixture(scope="module")
def now() -> float:
    return datetime.now(UTC).timestamp()  # noqa: TID251 -- OpenSSL reads the machine's clock by itself


@pytest.fixture(scope="module")
def here(now: float) -> Cluster:
    return Cluster(to_id(7), ca.create_root(now))


@pytest.fixture(scope="module")
def stranger(now: float) -> Identity:
    return Cluster(to_id(8), ca.create_root(now)).node(1, Role.MANAGER, now=now)


@pytest.fixture(scope="module")
def manager(here: Cluster, now: float) -> Identity:
    return here.node(1, Role.MANAGER, now=now)


@pytest.fixture(scope="module")
def worker(here: Cluster, now: float) -> Identity:
    return here.node(2, Role.WORKER, now=now)


async def test_a_node_gets_in_and_is_known(manager: Identity, worker: Identity) -> None:
    seen = Seen()
    answer, connection = await served(
        tls.server_context(manager, "required"), tls.client_context(worker), tls.peer, seen
    )
    assert answer == b"welcome"
    assert [(peer.node_id, peer.role) for peer in seen.peers] == [(worker.node_id, Role.WORKER)]
    assert connection is not None
    assert connection.version() == "TLSv1.3"
    assert tls.require_manager(connection).node_id == manager.node_id
    assert seen.peers[0].not_after == worker.not_after
    assert seen.peers[0].fingerprint == fingerprint(worker.certificate)


async def test_a_worker_does_not_get_where_a_manager_does(manager: Identity, worker: Identity) -> None:
    server, seen = tls.server_context(manager, "required"), Seen()
    assert (await served(server, tls.client_context(manager), tls.require_manager, seen))[0] == b"welcome"
    assert (await served(server, tls.client_context(worker), tls.require_manager, seen))[0] == b"403"
    assert seen.refusals == [
        f"node {worker.node_id} is a worker: only a manager's certificate opens this",
    ]


async def test_without_a_certificate_only_the_optional_door_opens(manager: Identity) -> None:
    seen, client = Seen(), tls.pinned_client_context(manager.root)
    assert (await served(tls.server_context(manager, "optional"), client, tls.peer, seen))[0] == b"403"
    assert "no certificate was shown" in seen.refusals[0]
    assert "peer did not return a certificate" in await refused(tls.server_context(manager, "required"), client)


@pytest.mark.parametrize("policy", ["optional", "required"])
async def test_a_certificate_of_another_cluster_is_refused(
    manager: Identity, stranger: Identity, policy: Literal["optional", "required"]
) -> None:
    client = tls.client_context(replace(stranger, root=manager.root))  # it knows our root, but is not of it
    client.cluster_id = ""  # nor does it mind
    why = await refused(tls.server_context(manager, policy), client)
    assert "certificate verify failed" in why


async def test_our_root_under_another_cluster_id_is_refused(manager: Identity, here: Cluster, now: float) -> None:
    client, seen = tls.client_context(Cluster(to_id(9), here.root).node(3, Role.MANAGER, now=now)), Seen()
    client.cluster_id = ""  # it does not mind
    assert (await served(tls.server_context(manager, "required"), client, tls.peer, seen))[0] == b"403"
    assert seen.refusals == [f"the certificate is of cluster {to_id(9)}, this node is in cluster {to_id(7)}"]


async def test_plain_tcp_gets_nothing(manager: Identity) -> None:
    seen = Seen()
    answer, _ = await served(tls.server_context(manager, "optional"), None, tls.peer, seen)
    assert b"welcome" not in answer
    assert seen == Seen()


@pytest.mark.parametrize(
    ("age", "expiry", "message"),
    [(3 * DAY, 2 * DAY, "certificate has expired"), (-DAY, DAY, "certificate is not yet valid")],
    ids=["expired", "not yet valid"],
)
async def test_a_certificate_out_of_its_time_is_refused(
    manager: Identity, here: Cluster, now: float, age: float, expiry: float, message: str
) -> None:
    late = here.node(4, Role.WORKER, now=now - age, expiry=expiry)
    assert message in await refused(tls.server_context(manager, "required"), tls.client_context(late))


async def test_a_node_does_not_talk_to_another_clusters_manager(worker: Identity, stranger: Identity) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await served(tls.server_context(stranger, "optional"), tls.client_context(worker), tls.peer, Seen())


async def test_nor_to_one_under_the_same_root(worker: Identity, here: Cluster, now: float) -> None:
    other = Cluster(to_id(9), here.root).node(3, Role.MANAGER, now=now)
    with pytest.raises(
        ssl.SSLCertVerificationError, match=f"of cluster {to_id(9)}, this node is in cluster {to_id(7)}"
    ):
        await served(tls.server_context(other, "optional"), tls.client_context(worker), tls.peer, Seen())


async def test_nobody_talks_to_a_worker_in_a_managers_place(manager: Identity, worker: Identity) -> None:
    for client in (tls.client_context(manager), tls.pinned_client_context(manager.root)):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"Hostname mismatch.*swarm-manager"):
            await served(tls.server_context(worker, "optional"), client, tls.peer, Seen())


async def test_an_older_protocol_is_refused(manager: Identity, worker: Identity) -> None:
    old = tls.client_context(worker)
    old.maximum_version = old.minimum_version = ssl.TLSVersion.TLSv1_2
    assert "unsupported protocol" in await refused(tls.server_context(manager, "required"), old)


async def test_no_session_is_resumed(manager: Identity, worker: Identity) -> None:
    _, connection = await served(tls.server_context(manager, "required"), tls.client_context(worker), tls.peer, Seen())
    assert connection is not None
    assert connection.session is None or not connection.session.has_ticket


async def test_the_introduction_shows_a_root_that_the_token_judges(manager: Identity, stranger: Identity) -> None:
    answer, connection = await served(
        tls.server_context(stranger, "optional"), tls.introduction_context(), lambda _: tls.Peer, Seen()
    )
    assert answer == b"welcome"
    assert connection is not None
    with pytest.raises(TypeError, match="not made with a context of this module"):
        tls.peer(connection)
    with pytest.raises(errors.Forbidden):
        tokens.check_root(tokens.parse_token(tokens.make_token(manager.root, bytes(16))), stranger.root)


async def test_a_joiner_knows_its_manager_before_it_knows_its_cluster(manager: Identity) -> None:
    _, connection = await served(
        tls.server_context(manager, "optional"), tls.pinned_client_context(manager.root), lambda _: tls.Peer, Seen()
    )
    assert connection is not None
    assert tls.require_manager(connection).cluster_id == manager.cluster_id
