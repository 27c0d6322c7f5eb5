# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster server over loopback TLS: each refusal stands beside the same call accepted."""

from __future__ import annotations

import asyncio
import socket
import ssl

import msgspec
import pytest

from covey.api.http import Headers, Request, Response
from covey.client import wire
from covey.client.channel import Connector
from covey.client.managers import Call
from covey.control.cluster import join_token
from covey.daemon.clock import SystemClock
from covey.manager.forward import forwarder
from covey.manager.server import DOORS, STRANGERS, Needs
from covey.model.changes import Batch, Delete, Update
from covey.model.errors import CoveyError, FailedPrecondition, Forbidden, InvalidArgument, NotLeader, Unavailable
from covey.model.ids import to_id
from covey.model.objects import NodeDescription, NodeState
from covey.model.secret import Secret
from covey.model.session import Heartbeat, HeartbeatAck, Hello, Redirect, Refused, Welcome
from covey.model.spec import Availability, NodeSpec, Role
from covey.security import ca, keys, tls, tokens
from covey.security.certificate import fingerprint
from covey.security.identity import Identity, assemble
from covey.security.rotation import cross_sign

replace = msgspec.structs.replace
LEADER, FOLLOWER, WORKER, REMOVED = 1, 2, 3, 4
HELLO = Hello(description=NodeDescription(hostname="h3"))


def csr(key: Secret | None = None) -> bytes:
    return keys.make_csr(key or keys.new_key())


def token(net, role: Role = Role.WORKER) -> Secret:
    return Secret(join_token(net.leader.store.view().cluster, role).encode())


def joining(secret: Secret, key: Secret | None = None) -> wire.JoinCall:
    return wire.JoinCall(csr=csr(key).decode(), token=secret, hostname="h9", availability=Availability.DRAIN)


def as_foreigner(net, foreign, number: int = LEADER):
    """With a certificate of another cluster, though it would accept our managers."""
    identity = foreign.identity(number, Role.MANAGER)

    def context() -> ssl.SSLContext:
        made = tls.client_context(identity)
        made.load_verify_locations(cadata=net.authority.root.cert_pem.decode())
        made.cluster_id = ""
        return made

    return net.as_context(context)


def addresses(net) -> list[str]:
    """Each test of a door that only the leader answers is made at the follower too."""
    return [net.leader.address, net.follower.address]


# -- open to strangers


async def test_a_stranger_may_fetch_the_root_and_judges_it_by_its_token(net, foreign):
    stranger = net.as_context(tls.introduction_context)
    ours = tokens.parse_token(token(net).reveal().decode())
    other = tokens.parse_token(tokens.make_token(foreign.root.cert_pem, b"x" * 16))
    for address in addresses(net):
        pem = await stranger.fetch_root(address, lambda pem: tokens.check_root(ours, pem))
        assert pem == net.authority.root.cert_pem
        with pytest.raises(Forbidden, match="not the one named in the join token"):
            await stranger.fetch_root(address, lambda pem: tokens.check_root(other, pem))


async def test_a_token_lets_a_stranger_in_at_any_manager(net):
    for address in addresses(net):
        key = keys.new_key()
        admission = await net.as_stranger().join(address, joining(token(net), key))
        identity = assemble(admission.certificate.encode(), key, admission.root_ca.encode())
        assert identity.role is Role.WORKER
        node = net.leader.store.view().nodes[identity.node_id]
        assert (node.description.hostname, node.spec.availability) == ("h9", Availability.DRAIN)


async def test_a_wrong_token_lets_nobody_in(net):
    wrong = Secret(token(net).reveal()[:-25] + b"1" * 25)
    for address in addresses(net):
        with pytest.raises(Forbidden, match="Was it rotated"):
            await net.as_stranger().join(address, joining(wrong))
    with pytest.raises(InvalidArgument, match="not a join token"):
        await net.as_stranger().join(net.leader.address, joining(Secret(b"hello")))


async def test_wrong_tokens_are_counted_by_the_address_of_the_stranger(net):
    wrong = Secret(token(net).reveal()[:-25] + b"1" * 25)
    for _ in range(5):
        with pytest.raises(Forbidden):
            await net.as_stranger().join(net.follower.address, joining(wrong))
    with pytest.raises(FailedPrecondition, match=r"from 127\.0\.0\.1"):
        await net.as_stranger().join(net.leader.address, joining(token(net)))


async def test_strangers_are_slowed_down_and_nodes_are_not(net):
    stranger, root = net.as_stranger(), net.authority.root.cert_pem
    for _ in range(STRANGERS):
        assert await stranger.fetch_root(net.leader.address, lambda _: None) == root
    with pytest.raises(FailedPrecondition, match="too many calls"):
        await stranger.fetch_root(net.leader.address, lambda _: None)
    assert await net.as_node(WORKER).fetch_root(net.leader.address, lambda _: None) == root


async def test_a_body_too_large_is_refused(net):
    def call(size: int) -> Call:
        return Call("POST", wire.JOIN, (), b"{" + b" " * size)

    large = await net.as_stranger().relay(net.leader.address, call(16 << 10))
    small = await net.as_stranger().relay(net.leader.address, call(1 << 10))
    assert b"larger than 16384 bytes" in large.body
    assert b"is not what this path takes" in small.body
    assert (large.status, small.status) == (400, 400)


# -- nodes


async def test_a_node_renews_at_any_manager(net):
    for address in addresses(net):
        key = keys.new_key()
        admission = await net.as_node(WORKER).renew(address, csr(key))
        identity = assemble(admission.certificate.encode(), key, admission.root_ca.encode())
        assert (identity.node_id, identity.role) == (to_id(WORKER), Role.WORKER)


async def test_strangers_and_removed_nodes_do_not_renew(net):
    for address in addresses(net):
        with pytest.raises(Forbidden, match="no certificate was shown"):
            await net.as_stranger().renew(address, csr())
        with pytest.raises(Forbidden, match="was removed"):
            await net.as_node(REMOVED).renew(address, csr())


async def test_a_certificate_of_another_cluster_opens_nothing(net, foreign):
    for address in addresses(net):
        with pytest.raises(Unavailable, match="does not accept this node's certificate"):
            await as_foreigner(net, foreign).renew(address, csr())
        with pytest.raises(Unavailable, match="does not accept this node's certificate"):
            await as_foreigner(net, foreign).fetch_root(address, lambda _: None)


async def test_a_worker_cannot_speak_for_another_node(net):
    call = Call("POST", wire.RENEW, ((wire.FOR_NODE, to_id(LEADER)), (wire.FOR_ADDRESS, "192.0.2.1")), _renewal())
    answer = await net.as_node(WORKER).relay(net.leader.address, call)
    assert (answer.status, b"is a worker" in answer.body) == (403, True)
    believed = await net.as_node(FOLLOWER).relay(net.leader.address, call)
    assert believed.status == 200
    assert msgspec.json.decode(believed.body)["NodeID"] == to_id(LEADER)


async def test_a_call_is_passed_on_once(net):
    call = Call("POST", wire.RENEW, ((wire.FOR_NODE, to_id(WORKER)), (wire.FOR_ADDRESS, "192.0.2.1")), _renewal())
    answer = await net.as_node(LEADER).relay(net.follower.address, call)
    assert isinstance(wire.failure(answer.status, answer.body), NotLeader)


def _renewal() -> bytes:
    return wire.encode(wire.RenewCall(csr=csr().decode()))


# -- managers


async def test_a_manager_gets_and_gives_up_its_vote_at_any_manager(net):
    for address in addresses(net):
        members = await net.as_node(FOLLOWER).raft_join(address, "192.0.2.2:2377", "192.0.2.2:2378")
        assert members == {to_id(FOLLOWER): "192.0.2.2:2378"}
        await net.as_node(FOLLOWER).raft_leave(address)
    call = ("join", to_id(FOLLOWER), "192.0.2.2:2378", "192.0.2.2:2377")
    assert net.leader.voting.calls == [call, ("leave", to_id(FOLLOWER))] * 2
    assert net.follower.voting.calls == []


async def test_a_manager_learns_who_votes_and_nobody_else_does(net):
    for address in addresses(net):
        told = await net.as_node(FOLLOWER).raft_members(address)
        assert told == wire.RaftMembers(members=dict(net.leader.store.members()), votes=True)
        for number, reason in ((WORKER, "is a worker"), (REMOVED, "was removed")):
            with pytest.raises(Forbidden, match=reason):
                await net.as_node(number).raft_members(address)
        with pytest.raises(Forbidden, match="no certificate"):
            await net.as_stranger().raft_members(address)


async def test_a_manager_whose_vote_was_taken_away_learns_it(net):
    node = net.leader.store.view().nodes[to_id(FOLLOWER)]
    await net.write(Update(replace(node, manager_address="")))
    for address in addresses(net):
        assert not (await net.as_node(FOLLOWER).raft_members(address)).votes


async def test_nobody_else_gets_a_vote(net):
    for address in addresses(net):
        for client, reason in (
            (net.as_node(WORKER), "is a worker"),
            (net.as_stranger(), "no certificate"),
            (net.as_node(REMOVED), "was removed"),
        ):
            with pytest.raises(Forbidden, match=reason):
                await client.raft_join(address, "192.0.2.2:2377", "192.0.2.2:2378")
            with pytest.raises(Forbidden, match=reason):
                await client.raft_leave(address)
    assert net.leader.voting.calls == []


async def test_a_demoted_manager_is_none_though_its_certificate_says_so(net):
    node = net.leader.store.view().nodes[to_id(FOLLOWER)]
    await net.write(Update(replace(node, spec=NodeSpec(role=Role.WORKER), role=Role.WORKER)))
    with pytest.raises(Forbidden, match="not a manager"):
        await net.as_node(FOLLOWER).raft_join(net.leader.address, "192.0.2.2:2377", "192.0.2.2:2378")
    answer = await net.as_node(FOLLOWER).forward(net.leader.address, Call("GET", "/nodes"))
    assert (answer.status, b"not a manager" in answer.body) == (403, True)


async def test_a_control_call_arrives_as_it_was_made_and_its_answer_as_it_was_given(net):
    net.leader.answer = Response(409, Headers([("X-Request-Id", "r1")]), b'{"message":"out of sequence"}')
    request = Request(
        method="POST",
        path="/services/a/b",
        target="/v1.41/services/a%2Fb?version=7&filters=%7B%22a%22%3A1%7D",
        headers=Headers([("X-Registry-Auth", "e30="), ("Host", "docker"), ("Content-Length", "4")]),
        body=b"body",
    )
    forward = forwarder(net.as_node(FOLLOWER))
    answer = await forward(net.leader.address, request)
    assert (answer.status, answer.body) == (409, b'{"message":"out of sequence"}')
    assert answer.headers.get("x-request-id") == "r1"
    (seen,) = net.leader.requests
    assert (seen.method, seen.path, seen.api_version, seen.body) == ("POST", "/services/a/b", "1.41", b"body")
    assert seen.query.items() == (("version", "7"), ("filters", '{"a":1}'))
    assert seen.headers.get("X-Registry-Auth") == "e30="


async def test_only_voting_managers_make_control_calls(net):
    call = Call("GET", "/nodes")
    assert (await net.as_node(FOLLOWER).forward(net.leader.address, call)).status == 200
    for client, reason in (
        (net.as_node(WORKER), b"is a worker"),
        (net.as_stranger(), b"no certificate"),
        (net.as_node(REMOVED), b"was removed"),
    ):
        answer = await client.forward(net.leader.address, call)
        assert (answer.status, reason in answer.body) == (403, True), answer
    node = net.leader.store.view().nodes[to_id(FOLLOWER)]
    await net.write(Update(replace(node, manager_address="")))
    answer = await net.as_node(FOLLOWER).forward(net.leader.address, call)
    assert (answer.status, b"no vote" in answer.body) == (403, True)
    assert len(net.leader.requests) == 1


async def test_a_follower_answers_no_control_call(net):
    answer = await net.as_node(LEADER).forward(net.follower.address, Call("GET", "/nodes"))
    assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (503, "NotLeader")
    assert net.follower.requests == []


async def test_plain_tcp_is_refused(net):
    host, port = net.leader.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/root HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    assert await net.as_stranger().fetch_root(net.leader.address, lambda _: None)


def test_strangers_have_two_doors_and_workers_two_more():
    doors = {need: {door.path for door in DOORS if door.needs is need} for need in Needs}
    assert doors[Needs.NOTHING] == {"/v1/root", "/v1/join"}
    assert doors[Needs.CERTIFICATE] | doors[Needs.NODE] == {"/v1/session", "/v1/renew"}


# -- sessions


class Sessions:
    """Connectors of a test, closed at its end."""

    def __init__(self, net) -> None:
        self._net = net
        self._connectors: list[Connector] = []

    async def connect(self, number: int, address: str):
        identity = self._net.identities[number]
        return await self.with_context(lambda: tls.client_context(identity), address)

    async def with_context(self, context, address: str):
        self._connectors.append(Connector(context))
        return await self._connectors[-1].connect(address)

    async def close(self) -> None:
        for connector in self._connectors:
            await connector.close()


@pytest.fixture
async def sessions(net):
    sessions = Sessions(net)
    yield sessions
    await sessions.close()


async def test_a_worker_holds_a_session_with_the_leader(net, sessions):
    channel = await sessions.connect(WORKER, net.leader.address)
    await channel.send(HELLO)
    assert isinstance(await channel.receive(), Welcome)
    await channel.receive()
    await channel.send(Heartbeat())
    assert isinstance(await channel.receive(), HeartbeatAck)
    status = net.leader.store.view().nodes[to_id(WORKER)].status
    assert (status.state, status.address) == (NodeState.READY, "127.0.0.1")
    await channel.close()


async def test_a_follower_names_the_leader(net, sessions):
    channel = await sessions.connect(WORKER, net.follower.address)
    await channel.send(HELLO)
    redirect = await channel.receive()
    assert isinstance(redirect, Redirect)
    assert redirect.leader is not None
    assert redirect.leader.address == net.leader.address


async def test_a_removed_node_hears_that_it_was(net, sessions):
    channel = await sessions.connect(WORKER, net.leader.address)
    await channel.send(HELLO)
    assert isinstance(await channel.receive(), Welcome)
    await channel.receive()
    await net.write(Delete("node", to_id(WORKER), net.leader.store.view().nodes[to_id(WORKER)].version))
    refused = await channel.receive()
    assert isinstance(refused, Refused)
    assert refused.final
    with pytest.raises(ConnectionError):
        await channel.receive()


async def test_no_session_without_a_certificate_of_the_cluster(net, sessions, foreign):
    with pytest.raises(ConnectionError, match="HTTP 403"):
        await sessions.with_context(lambda: tls.pinned_client_context(net.authority.root.cert_pem), net.leader.address)

    def context() -> ssl.SSLContext:
        made = tls.client_context(foreign.identity(WORKER, Role.WORKER))
        made.load_verify_locations(cadata=net.authority.root.cert_pem.decode())
        made.cluster_id = ""
        return made

    with pytest.raises(ConnectionError):
        await sessions.with_context(context, net.leader.address)


async def test_what_is_no_message_ends_the_session(net, sessions):
    channel = await sessions.connect(WORKER, net.leader.address)
    await channel._socket.send_bytes(b"\xc1")
    with pytest.raises(ConnectionError, match="ended the session"):
        await channel.receive()


async def test_a_session_ends_with_its_certificate(net, sessions):
    net.leader.clock.ahead = net.identities[WORKER].not_after - net.leader.clock.now() - 0.2
    channel = await sessions.connect(WORKER, net.leader.address)
    await channel.send(HELLO)
    assert isinstance(await channel.receive(), Welcome)
    await channel.receive()
    with pytest.raises(ConnectionError):
        await channel.receive()


async def test_a_connection_does_not_outlive_its_certificate(net):
    client = net.as_node(FOLLOWER)
    assert (await client.forward(net.leader.address, Call("GET", "/nodes"))).status == 200
    net.leader.clock.ahead = net.identities[FOLLOWER].not_after - net.leader.clock.now() + 1
    answer = await client.forward(net.leader.address, Call("GET", "/nodes"))
    assert (answer.status, b"call again with a renewed one" in answer.body) == (403, True)


async def test_a_connection_does_not_outlive_the_root_that_vouched_for_it(net):
    kept, moved = net.as_node(FOLLOWER), net.as_context(lambda: tls.client_context(_rotated(net, FOLLOWER)))
    assert (await kept.forward(net.leader.address, Call("GET", "/nodes"))).status == 200
    net.identities[LEADER] = _rotated(net, LEADER)
    assert (await kept.forward(net.leader.address, Call("GET", "/nodes"))).status == 200, "both roots count"
    assert (await moved.forward(net.leader.address, Call("GET", "/nodes"))).status == 200
    who = net.identities[LEADER]
    net.identities[LEADER] = assemble(who.certificate, who.key, NEW.cert_pem)
    answer = await kept.forward(net.leader.address, Call("GET", "/nodes"))
    assert (answer.status, b"has been replaced" in answer.body) == (403, True)
    assert (await moved.forward(net.leader.address, Call("GET", "/nodes"))).status == 200


async def test_during_a_rotation_the_root_shown_is_the_one_that_tokens_name(net):
    net.identities[LEADER] = _rotated(net, LEADER)
    pem = await net.as_context(tls.introduction_context).fetch_root(net.leader.address, lambda _: None)
    tokens.check_root(tokens.parse_token(token(net).reveal().decode()), pem)


NEW = ca.create_root(SystemClock().now())


def _rotated(net, number: int) -> Identity:
    """That manager after it has moved to a new root, while the old one counts."""
    key, now, old = keys.new_key(), SystemClock().now(), net.authority.root
    leaf = ca.sign(NEW, keys.make_csr(key), to_id(number), Role.MANAGER, net.authority.cluster_id, now, 3600.0)
    return assemble(leaf + cross_sign(old, NEW.cert_pem, now), key, old.cert_pem + NEW.cert_pem)


# -- nodes that were removed


#: What opens a door to whoever may enter; a body that is refused for its content came through.
OPENS = {
    wire.RENEW: lambda: _renewal(),
    wire.RAFT_JOIN: lambda: wire.encode(wire.RaftJoinCall(addr="192.0.2.2:2377", raft_addr="192.0.2.2:2378")),
}
CLOSED = [door for door in DOORS if door.needs > Needs.CERTIFICATE]


def knocked(client, address: str, door):
    path = door.path.replace("/{target:.*}", "/nodes")
    call = Call(door.method.replace("*", "GET"), path, (), OPENS.get(door.path, bytes)())
    return client.relay(address, call)


@pytest.mark.parametrize("door", CLOSED, ids=lambda door: f"{door.method} {door.path}")
async def test_a_manager_that_was_removed_is_refused_at_every_door_at_once_whoever_leads(net, door):
    client = net.as_node(FOLLOWER)
    before = await knocked(client, net.leader.address, door)
    assert before.status < 300, before
    node = net.leader.store.view().nodes[to_id(FOLLOWER)]
    await net.write(Delete("node", node.id, node.version))
    for address in addresses(net):
        after = await knocked(client, address, door)
        assert after.status == 403 or b"NotLeader" in after.body, after
    assert (await knocked(client, net.leader.address, door)).status == 403
    behind = net.follower.store
    behind.elect()
    for key, gone in list(behind.view().nodes.items()):
        if key == to_id(FOLLOWER):
            await behind.propose(Batch("", 0.0, (Delete("node", key, gone.version),)), 1.0)
    assert (await knocked(client, net.follower.address, door)).status == 403


async def test_a_removed_node_gets_no_session_from_any_manager(net, sessions):
    for address in addresses(net):
        channel = await sessions.connect(REMOVED, address)
        await channel.send(HELLO)
        refused = await channel.receive()
        assert isinstance(refused, Refused)
        assert refused.final is (address == net.leader.address)


async def test_a_removed_node_is_slowed_down_as_a_stranger(net):
    client = net.as_node(REMOVED)
    for _ in range(STRANGERS):
        await client.fetch_root(net.leader.address, lambda _: None)
    with pytest.raises(FailedPrecondition, match="too many calls"):
        await client.fetch_root(net.leader.address, lambda _: None)


# -- the server's own life


async def test_a_renewed_certificate_is_shown_to_the_next_connection(net):
    host, port = net.leader.address.split(":")
    shown = []
    for _ in range(2):
        context = tls.pinned_client_context(net.authority.root.cert_pem)
        _reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown.append(fingerprint(ssl.DER_cert_to_PEM_cert(der).encode()))
        writer.close()
        net.identities[LEADER] = net.authority.identity(LEADER, Role.MANAGER)
        expected = fingerprint(net.identities[LEADER].certificate)
    assert shown[0] != shown[1]
    assert expected not in shown
    answer = await net.as_node(FOLLOWER).forward(net.leader.address, Call("GET", "/nodes"))
    assert answer.status == 200


async def test_stopping_takes_less_than_a_second_and_sends_workers_away(net, sessions):
    channels = [await sessions.connect(number, net.leader.address) for number in (WORKER, FOLLOWER)]
    for channel in channels:
        await channel.send(HELLO)
        assert isinstance(await channel.receive(), Welcome)
        await channel.receive()
    async with asyncio.timeout(1):
        await net.leader.server.stop()
    for channel in channels:
        assert isinstance(await channel.receive(), Redirect)
    with pytest.raises(CoveyError, match="does not answer"):
        await net.as_node(WORKER).renew(net.leader.address, csr())


async def test_a_taken_port_is_named(net):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FailedPrecondition, match="ss -ltnp"):
            await net.follower.server.start("127.0.0.1", taken.getsockname()[1])
