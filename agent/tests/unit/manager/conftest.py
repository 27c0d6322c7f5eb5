# SPDX-License-Identifier: GPL-3.0-or-later
"""A leader's and a follower's cluster server on loopback, with real certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from authority import Authority

from covey.api.http import Request, Response
from covey.client.authorities import Authorities
from covey.client.managers import Managers
from covey.control.dispatcher import Dispatcher
from covey.control.issuer import Issuer
from covey.control.signer import Signer
from covey.daemon.clock import SystemClock
from covey.manager.server import ClusterServer, Services
from covey.model.changes import Batch, Change, Create, Update
from covey.model.ids import to_id
from covey.model.objects import Node
from covey.model.spec import NodeSpec, Role
from covey.security import tls
from covey.security.identity import Identity
from covey.store.memory import MemoryStore

LEADER, FOLLOWER, WORKER, REMOVED = 1, 2, 3, 4
replace = msgspec.structs.replace


class Voting:
    """Remembers who asked for or gave up a vote."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    async def join(self, node_id: str, raft_address: str, manager_address: str) -> dict[str, str]:
        self.calls.append(("join", node_id, raft_address, manager_address))
        return {node_id: raft_address}

    async def leave(self, node_id: str) -> None:
        self.calls.append(("leave", node_id))


class Skewed(SystemClock):
    """Shows the time, and what a test adds to it."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass
class Host:
    """One manager's server and what stands behind it."""

    server: ClusterServer
    store: MemoryStore
    dispatcher: Dispatcher
    voting: Voting
    clock: Skewed
    requests: list[Request] = field(default_factory=list)
    answer: Response = field(default_factory=lambda: Response.json({"said": "yes"}))
    address: str = ""


@dataclass
class Net:
    """The cluster; ``identities`` by node number."""

    authority: Authority
    identities: dict[int, Identity]
    leader: Host
    follower: Host
    clients: list[Managers] = field(default_factory=list)

    async def write(self, *changes: Change) -> None:
        """Into both states, as Raft would."""
        await self.leader.store.propose(Batch("", 0.0, changes), 1.0)

    def as_node(self, number: int) -> Managers:
        identity = self.identities[number]
        return self.as_context(lambda: tls.client_context(identity))

    def as_stranger(self) -> Managers:
        return self.as_context(lambda: tls.pinned_client_context(self.authority.root.cert_pem))

    def as_context(self, context: Callable[[], ssl.SSLContext]) -> Managers:
        cached = context()
        self.clients.append(Managers(lambda: cached))
        return self.clients[-1]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority(to_id(900))


@pytest.fixture(scope="session")
def foreign() -> Authority:
    return Authority(to_id(901))


def _host(identities: dict[int, Identity], number: int, store: MemoryStore, clients: list[Managers]) -> Host:
    clock = Skewed()
    context = tls.client_context(identities[number])
    clients.append(Managers(lambda: context))
    dispatcher, voting = Dispatcher(store, clock), Voting()
    outside = Authorities(lambda root: tls.authority_context(identities[number], root))

    async def answer(request: Request) -> Response:
        host.requests.append(request)
        return host.answer

    services = Services(
        identity=lambda: identities[number],
        store=store,
        clock=clock,
        signer=Signer(store, clock, Issuer(outside, clock)),
        dispatcher=dispatcher,
        voting=voting,
        answer_as_leader=answer,
        managers=clients[-1],
    )
    host = Host(ClusterServer(services), store, dispatcher, voting, clock)
    return host


@pytest.fixture
async def net(authority: Authority) -> AsyncIterator[Net]:
    roles = {LEADER: Role.MANAGER, FOLLOWER: Role.MANAGER, WORKER: Role.WORKER, REMOVED: Role.MANAGER}
    identities = {number: authority.identity(number, role) for number, role in roles.items()}
    clients: list[Managers] = []
    store = MemoryStore(to_id(LEADER))
    leader = _host(identities, LEADER, store, clients)
    port = await leader.server.start("127.0.0.1", 0)
    leader.address = f"127.0.0.1:{port}"
    await store.propose(Batch("", 0.0, authority.first_objects(LEADER, leader.address)), 1.0)
    for number in (FOLLOWER, WORKER):
        node = Node(id=to_id(number), spec=NodeSpec(role=roles[number]), role=roles[number])
        await store.propose(Batch("", 0.0, (Create(node),)), 1.0)
    behind = MemoryStore(to_id(FOLLOWER), view=store.view())
    behind.depose(to_id(LEADER))
    follower = _host(identities, FOLLOWER, behind, clients)
    follower.address = f"127.0.0.1:{await follower.server.start('127.0.0.1', 0)}"
    await store.propose(Batch("", 0.0, (_voter(store, to_id(FOLLOWER), follower.address),)), 1.0)
    net = Net(authority, identities, leader, follower, clients)
    running = [asyncio.create_task(host.dispatcher.run()) for host in (leader, follower)]
    yield net
    for client in net.clients:
        await client.close()
    for host in (leader, follower):
        await host.server.stop()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _voter(store: MemoryStore, node_id: str, address: str) -> Update:
    return Update(replace(store.view().nodes[node_id], manager_address=address))
