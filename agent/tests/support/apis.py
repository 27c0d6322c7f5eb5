# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated cluster behind a control API: the API writes to a store in memory, planners and hosts act on the same."""

from __future__ import annotations

import asyncio
import json as json_
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from authority import own_issuer
from builders import node
from hosts import Host
from worlds import World

from covey.api.bodies import (
    AdmitRequest,
    CompleteRequest,
    FindRequest,
    InitRequest,
    JoinRequest,
    RecoverRequest,
    RestoreRequest,
)
from covey.api.http import Headers, Query, Request, Response
from covey.api.ports import LocalState, NodeReport
from covey.api.router import ControlApi
from covey.control.cluster import TokenSecrets, with_tokens
from covey.control.issuer import Issuer
from covey.model.admission import Admission, ManagerInfo
from covey.model.changes import Batch, Change, Create
from covey.model.errors import Conflict, EngineDown, EngineError, NotInCluster, WrongUnlockKey
from covey.model.ids import to_id
from covey.model.objects import Cluster, Node, NodeTLS
from covey.model.secret import Secret
from covey.model.spec import ClusterSpec, NodeSpec, Role
from covey.security.ca import create_root
from covey.security.certificate import issuer_info
from covey.state.view import View
from covey.store.memory import MemoryStore

CLUSTER = to_id(100)
ROOT = create_root(1_800_000_000.0)
ISSUER = issuer_info(ROOT.cert_pem)
#: What nodes say whose certificate is of that root.
CERTIFIED = NodeTLS(trust_root=ROOT.cert_pem, issuer_subject=ISSUER.subject, issuer_public_key=ISSUER.public_key)
OUTSIDE = NodeReport(LocalState.INACTIVE, "0.1.0")
ADMISSION = Admission(node_id="new", cluster_id="c1", role=Role.WORKER, certificate="CERT", root_ca="ROOT", managers=())


BEGIN = 1_800_000_000.25


class Clock:
    """Time passes with the event loop's and with the world's; ids and secrets are counted."""

    def __init__(self, world: World | None = None) -> None:
        self._count, self._world = 36**24, world

    def now(self) -> float:
        return asyncio.get_running_loop().time() + (self._world.now if self._world else BEGIN)

    def new_id(self) -> str:
        self._count += 36**20
        return to_id(self._count)

    def random(self) -> float:
        return 0.5

    def secret(self, size: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(size)


class StoredWorld(World):
    """A world whose state is that of a store, so that others may write to it too."""

    def __init__(self, store: MemoryStore, *nodes: Node) -> None:
        self.store = store
        super().__init__(*nodes)
        self.now = self.leader_since = BEGIN

    @property
    def view(self) -> View:
        return self.store.view()

    @view.setter
    def view(self, _: View) -> None:
        """The store's is the only one."""

    def commit(self, *changes: Change) -> None:
        at_once(self.store.propose(Batch(request_id="", at=self.now, changes=changes), 1.0))
        self._stirred = True

    def run(self, seconds: int) -> None:
        self._stirred = True
        super().run(seconds)


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of something that never really waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@dataclass
class FakeManaging:
    """A manager's part; what is passed on to the leader goes to ``leader``, another API."""

    store: MemoryStore
    leader: ControlApi | None = None
    issuer: Issuer = field(default_factory=lambda: own_issuer(Clock()))
    admitted: list[AdmitRequest] = field(default_factory=list)
    forwarded: list[Request] = field(default_factory=list)

    async def admit(self, request: AdmitRequest) -> Admission:
        self.admitted.append(request)
        return ADMISSION

    async def forward(self, leader: str, request: Request) -> Response:
        assert leader
        assert self.leader is not None
        self.forwarded.append(request)
        return await self.leader.answer_as_leader(request)


@dataclass
class FakeLife:
    """A node whose life is what the test says; it notes what it is asked to do."""

    report: NodeReport = OUTSIDE
    manager: FakeManaging | None = None
    asked: list[object] = field(default_factory=list)
    unlock_key: Secret = Secret(b"u" * 32)  # noqa: RUF009 - immutable

    def status(self) -> NodeReport:
        return self.report

    def managing(self) -> FakeManaging | None:
        return self.manager

    async def init(self, request: InitRequest) -> str:
        self.asked.append(request)
        self.report = replace(self.report, state=LocalState.ACTIVE, node_id="founder", role=Role.MANAGER)
        return "founder"

    async def restore(self, request: RestoreRequest) -> str:
        self.asked.append(request)
        return "restored"

    async def recover(self, request: RecoverRequest) -> str:
        self.asked.append(request)
        return self.report.node_id

    async def find(self, request: FindRequest) -> None:
        self.asked.append(request)

    async def join(self, request: JoinRequest) -> None:
        self.asked.append(request)

    async def leave(self, force: bool) -> None:
        self.asked.append(("leave", force))

    async def renew(self) -> None:
        self.asked.append("renew")
        if not self.report.node_id:
            raise NotInCluster("host1 is not part of a cluster, so it has no certificate")
        self.report = replace(self.report, certificate=(BEGIN, BEGIN + 3600.0))

    async def unlock(self, unlock_key: Secret) -> None:
        if self.report.state is LocalState.INACTIVE:
            raise NotInCluster("host1 is not part of a cluster")
        if self.report.state is not LocalState.LOCKED:
            raise Conflict("swarm is not locked")
        if unlock_key != self.unlock_key:
            raise WrongUnlockKey(1)
        self.report = replace(self.report, state=LocalState.ACTIVE)

    async def request_join(self, advertise_addr: str) -> bytes:
        self.asked.append(("request_join", advertise_addr))
        return b"CSR"

    async def complete_join(self, request: CompleteRequest) -> None:
        self.asked.append(request)
        self.report = replace(self.report, state=LocalState.ACTIVE, node_id=request.admission.node_id)


@dataclass(frozen=True)
class EngineAnswer:
    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    message: str = ""


class FakeEngine:
    """An engine with a few answers; ``down`` makes it fall silent."""

    def __init__(self) -> None:
        self.down = False
        self.seen: list[tuple[str, str]] = []
        self.json: dict[str, Any] = {
            "/info": {"ServerVersion": "20.10.24", "Name": "host1", "Swarm": {"LocalNodeState": "inactive"}},
            "/version": {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": []},
        }
        self.ping = Headers([("Api-Version", "1.41"), ("Ostype", "linux"), ("Swarm", "inactive")])

    async def get_json(self, target: str) -> Any:
        self._answer("GET", target)
        if target not in self.json:
            raise EngineError("page not found")
        return self.json[target]

    async def fetch(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - the protocol's
    ) -> EngineAnswer:
        self._answer(method, target)
        if target == "/_ping":
            return EngineAnswer(200, self.ping, b"OK")
        if target.endswith("/json"):
            raise EngineDown(f"no answer within {timeout} s")
        return EngineAnswer(201, Headers([("Content-Type", "application/json")]), b'{"Id":"n1"}')

    def _answer(self, method: str, target: str) -> None:
        self.seen.append((method, target))
        if self.down:
            raise EngineDown("the container engine does not answer")


class Answer:
    """A response, as a test looks at it."""

    def __init__(self, response: Response) -> None:
        assert isinstance(response.body, bytes)
        self.status, self.headers, self.text = response.status, response.headers, response.body.decode()

    @property
    def json(self) -> Any:
        return json_.loads(self.text)

    @property
    def message(self) -> str:
        return self.json["message"]

    def __repr__(self) -> str:
        return f"{self.status} {self.text}"


class Client:
    """Calls an API as a client would write it: ``get("/services?status=true")``."""

    def __init__(self, api: ControlApi) -> None:
        self.api = api

    async def call(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        path, _, query = url.partition("?")
        sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
        data = body if isinstance(body, bytes) else b"" if body is None else json_.dumps(body).encode()
        request = Request(method, path, "1.41", Query.parse(query), Headers(sent), data, target=url)
        assert self.api.owns(method, path), f"{method} {path} would go to the engine"
        return Answer(await self.api.handle(request))

    async def get(self, url: str, **headers: str) -> Answer:
        return await self.call("GET", url, **headers)

    async def post(self, url: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("POST", url, body, **headers)

    async def delete(self, url: str, **headers: str) -> Answer:
        return await self.call("DELETE", url, **headers)


class Swarm:
    """One manager (``n1``, leading) and two workers, with their API, engine and hosts."""

    def __init__(self, workers: int = 2) -> None:
        self.store = MemoryStore("n1")
        self.world = StoredWorld(self.store)
        self.clock, self.engine = Clock(self.world), FakeEngine()
        secrets = TokenSecrets(Secret(bytes(16)), Secret(bytes(range(16))))
        cluster = Cluster(id=CLUSTER, spec=ClusterSpec(), root_certificate=ROOT.cert_pem, root_key=ROOT.key_pem)
        manager = node("n1", role="manager", address="10.0.0.1", manager_address="10.0.0.1:2377", tls=CERTIFIED)
        self.add(manager, NodeSpec(role=Role.MANAGER))
        for number in range(2, 2 + workers):
            self.add(node(f"n{number}", address=f"10.0.0.{number}", tls=CERTIFIED))
        self.world.commit(Create(with_tokens(cluster, secrets)))
        managers = (ManagerInfo(node_id="n1", addr="10.0.0.1:2377"),)
        report = NodeReport(LocalState.ACTIVE, "0.1.0", "n1", CLUSTER, Role.MANAGER, "10.0.0.1", managers)
        self.managing = FakeManaging(self.store)
        self.life = FakeLife(report, self.managing)
        self.api = ControlApi(self.life, self.engine, self.clock)
        self.client = Client(self.api)

    def add(self, host: Node, spec: NodeSpec | None = None) -> None:
        """One more node, with a host that works."""
        self.world.commit(Create(msgspec.structs.replace(host, spec=spec) if spec else host))
        self.world.hosts[host.id] = Host(host.id)

    def run(self, seconds: int = 5) -> None:
        """Planners and hosts do what they do in that time."""
        self.world.run(seconds)
