# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers a call: this node, this manager as leader, or the leader elsewhere."""

from __future__ import annotations

import asyncio

import pytest
from apis import Client, Clock, FakeEngine, FakeLife, FakeManaging, Swarm

from covey.api import errors as api_errors
from covey.api.http import Request, Response
from covey.api.ports import LocalState, NodeReport
from covey.api.router import PATIENCE, ControlApi
from covey.api.routes import ROUTES, is_ours
from covey.model import errors
from covey.model.admission import ManagerInfo
from covey.model.spec import Role
from covey.state.codec import decode_view, encode_view
from covey.store.memory import MemoryStore

X1 = {"Name": "x1", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}


class Follower:
    """Another manager of the same cluster, with a state of its own."""

    def __init__(self, swarm: Swarm, leader: str | None = "n1") -> None:
        self.store = MemoryStore("n7", view=decode_view(encode_view(swarm.store.view())))
        self.store.depose(leader)
        self.managing = FakeManaging(self.store, swarm.api)
        report = NodeReport(LocalState.ACTIVE, "0.1.0", "n7", "c1", Role.MANAGER, "10.0.0.7")
        self.api = ControlApi(FakeLife(report, self.managing), FakeEngine(), Clock())
        self.client = Client(self.api)


@pytest.fixture
def follower(swarm: Swarm) -> Follower:
    return Follower(swarm)


OURS = [
    ("GET", "/_ping"),
    ("HEAD", "/_ping"),
    ("GET", "/info"),
    ("GET", "/version"),
    ("GET", "/services"),
    ("PUT", "/services/x"),
    ("GET", "/swarm"),
    ("GET", "/swarm/whatever"),
    ("GET", "/distribution/a/b/c/json"),
    ("POST", "/networks/create"),
    ("GET", "/covey/v1/whatever"),
    ("DELETE", "/secrets/x"),
]
THE_ENGINES = [
    ("GET", "/containers/json"),
    ("POST", "/_ping"),
    ("GET", "/networks"),
    ("GET", "/networks/x"),
    ("GET", "/servicesx"),
    ("GET", "/"),
    ("GET", "/events"),
    ("POST", "/containers/services/start"),
]


@pytest.mark.parametrize(("method", "path"), OURS)
def test_what_is_ours(method, path):
    assert is_ours(method, path)


@pytest.mark.parametrize(("method", "path"), THE_ENGINES)
def test_what_is_the_engines(method, path):
    assert not is_ours(method, path)


def test_every_route_has_one_handler():
    assert all((route.anywhere is None) != (route.leader is None) for route in ROUTES)


async def test_what_is_no_call_is_not_found_in_our_name(client: Client):
    answer = await client.call("PUT", "/services/x")
    assert (answer.status, answer.message) == (404, "page PUT /services/x not found")


async def test_a_call_outside_of_a_cluster():
    client = Client(ControlApi(FakeLife(), FakeEngine(), Clock()))
    answer = await client.get("/nodes")
    assert answer.status == 503
    assert answer.message == (
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )


async def test_a_call_on_a_worker_names_the_managers():
    managers = (ManagerInfo(node_id="n1", addr="10.0.0.1:2377"), ManagerInfo(node_id="n7", addr="10.0.0.7:2377"))
    report = NodeReport(LocalState.ACTIVE, "0.1.0", "n2", "c1", Role.WORKER, "10.0.0.2", managers)
    client = Client(ControlApi(FakeLife(report), FakeEngine(), Clock()))
    answer = await client.post("/services/create", X1)
    assert answer.status == 503
    assert answer.message.startswith("This node is not a swarm manager. Worker nodes can't be used to view or modify")
    assert "10.0.0.1:2377, 10.0.0.7:2377" in answer.message


async def test_a_follower_passes_the_call_on_as_it_is(swarm: Swarm, follower: Follower):
    created = await follower.client.post("/services/create", X1)
    assert created.status == 201
    assert swarm.store.view().service_named("x1") is not None
    (request,) = follower.managing.forwarded
    assert (request.method, request.path) == ("POST", "/services/create")
    refused = await follower.client.post("/services/create", X1)
    assert refused.status == 409
    assert (await follower.client.get("/services/x1")).json["ID"] == created.json["ID"]


async def test_a_stale_read_is_answered_here(swarm: Swarm, follower: Follower):
    await swarm.client.post("/services/create", X1)
    assert (await follower.client.get("/services?consistency=stale")).json == []
    assert len((await follower.client.get("/services")).json) == 1
    follower.store.depose(None)
    assert (await follower.client.get("/nodes?consistency=stale")).status == 200


async def test_a_write_is_never_stale(swarm: Swarm, follower: Follower):
    assert (await follower.client.post("/services/create?consistency=stale", X1)).status == 201
    assert swarm.store.view().service_named("x1") is not None


async def test_without_a_leader_the_call_fails_after_a_while(swarm: Swarm):
    swarm.store.depose()
    answer = await swarm.client.get("/services")
    assert answer.status == 503
    assert answer.message.startswith("The swarm does not have a leader.")
    assert asyncio.get_running_loop().time() == pytest.approx(PATIENCE)


class FullStore(MemoryStore):
    """One whose disk is full, and that therefore does not lead."""

    def trouble(self) -> str:
        return "the disk with /x is full"


def full_manager(*others: str) -> Client:
    store = FullStore("n1")
    store.depose()
    store._members |= {other: f"{other}:2378" for other in others}
    report = NodeReport(LocalState.ACTIVE, "0.1.0", "n1", "c1", Role.MANAGER, error=store.trouble())
    return Client(ControlApi(FakeLife(report, FakeManaging(store)), FakeEngine(), Clock()))


@pytest.mark.parametrize(("others", "patience"), [((), 0.0), (("n2", "n3"), PATIENCE)])
async def test_a_full_disk_is_named_and_reads_are_answered_as_stale(others, patience):
    """Another manager may be elected meanwhile, if there is one."""
    client = full_manager(*others)
    answer = await client.post("/services/create", X1)
    assert (answer.status, "On this manager, the disk with /x is full." in answer.message) == (503, True)
    assert asyncio.get_running_loop().time() == pytest.approx(patience, abs=0.1)
    read = await client.get("/services")
    assert (read.status, read.json) == (200, [])
    assert read.headers.get("Warning") == '110 - "Response is Stale"'


async def test_a_manager_in_trouble_says_so_in_info():
    assert (await full_manager().get("/info")).json["Swarm"]["Error"] == "the disk with /x is full"


async def test_an_election_costs_a_moment_and_no_error(swarm: Swarm):
    swarm.store.depose()
    call = asyncio.create_task(swarm.client.post("/services/create", X1))
    await asyncio.sleep(1)
    assert not call.done()
    swarm.store.elect()
    assert (await call).status == 201
    assert asyncio.get_running_loop().time() < 1.5


async def test_a_leader_that_does_not_know_it_yet_is_asked_again(swarm: Swarm, follower: Follower):
    swarm.store.depose()
    call = asyncio.create_task(follower.client.get("/services"))
    await asyncio.sleep(1)
    swarm.store.elect()
    assert (await call).status == 200


async def test_a_leader_deposed_in_the_middle_lets_the_next_one_do_it(swarm: Swarm):
    other = Follower(swarm, None)
    swarm.managing.leader = other.api

    async def deposed(batch, patience):
        swarm.store.depose("n7")
        other.store.elect()
        raise errors.NotLeader("n7")

    swarm.store.propose = deposed
    assert (await swarm.client.post("/services/create", X1)).status == 201
    assert other.store.view().service_named("x1") is not None


async def test_a_write_whose_answer_was_lost_takes_effect_once(swarm: Swarm, follower: Follower):
    forward, lost = follower.managing.forward, []

    async def losing(leader: str, request: Request) -> Response:
        response = await forward(leader, request)
        if not lost:
            lost.append(response)
            raise errors.Unavailable("the connection broke")
        return response

    follower.managing.forward = losing
    answer = await follower.client.post("/services/create", X1)
    assert answer.status == 201
    assert [answer.json["ID"]] == list(swarm.store.view().services)
    assert len(follower.managing.forwarded) == 2


async def test_a_leader_that_never_answers(follower: Follower):
    async def silent(leader: str, request: Request) -> Response:
        raise errors.Unavailable("manager n1 does not answer")

    follower.managing.forward = silent
    answer = await follower.client.get("/services")
    assert (answer.status, answer.message) == (503, "manager n1 does not answer")


async def test_a_leader_gone_without_a_word_is_not_waited_for(follower: Follower):
    async def silent(leader: str, request: Request) -> Response:
        await asyncio.sleep(1000)
        raise AssertionError("somebody waited")

    follower.managing.forward = silent
    call = asyncio.create_task(follower.client.post("/services/create", X1))
    await asyncio.sleep(3)
    follower.store.depose(None)
    await asyncio.sleep(1)
    follower.store.elect()
    assert (await call).status == 201
    assert asyncio.get_running_loop().time() < 4.5
    assert follower.store.view().service_named("x1") is not None


async def test_a_call_that_waited_long_finds_the_next_leader_too(follower: Follower):
    async def silent(leader: str, request: Request) -> Response:
        await asyncio.sleep(1000)
        raise AssertionError("somebody waited")

    follower.managing.forward = silent
    call = asyncio.create_task(follower.client.get("/services"))
    await asyncio.sleep(PATIENCE * 5)
    follower.store.elect()
    assert (await call).status == 200


async def test_elections_nobody_wins_are_not_waited_for_without_end(swarm: Swarm):
    swarm.store.depose()
    call = asyncio.create_task(swarm.client.get("/services"))
    while not call.done():
        await asyncio.sleep(0.5)
        swarm.store.depose()
    assert call.result().status == 503
    assert asyncio.get_running_loop().time() < PATIENCE + 1


async def test_a_write_of_unknown_outcome_says_so(swarm: Swarm):
    async def lost(batch, patience):
        raise errors.Unavailable("no majority within 10 seconds")

    swarm.store.propose = lost
    answer = await swarm.client.post("/services/create", X1)
    assert answer.status == 503
    assert "no majority within 10 seconds; the outcome is unknown" in answer.message


async def test_a_call_passed_on_is_not_passed_on_again(follower: Follower):
    response = await follower.api.answer_as_leader(Request("GET", "/services"))
    assert response.status == 503
    assert b'"NotLeader"' in response.body
    assert follower.managing.forwarded == []


async def test_a_node_s_own_calls_cannot_be_asked_from_elsewhere(swarm: Swarm):
    response = await swarm.api.answer_as_leader(Request("POST", "/swarm/leave"))
    assert response.status == 503
    assert swarm.life.asked == []


async def test_waiting_for_convergence_goes_on_with_the_next_leader(swarm: Swarm):
    created = (await swarm.client.post("/services/create", X1)).json["ID"]
    other = Follower(swarm, None)
    swarm.managing.leader = other.api
    call = asyncio.create_task(swarm.client.get(f"/covey/v1/services/{created}/convergence?wait=30"))
    await asyncio.sleep(1)
    other.store.elect()
    swarm.store.depose("n7")
    await asyncio.sleep(1)
    assert len(swarm.managing.forwarded) == 1
    assert (await call).json["Converged"] is False


@pytest.mark.parametrize("given", ["x" * 200, "a\x00b"])
async def test_a_request_id_must_be_reasonable(client: Client, given):
    answer = await client.post("/services/create", X1, X_Covey_Request_Id=given)
    assert answer.status == 400


STATUS = [
    (errors.InvalidArgument("x", "A.B"), 400),
    (errors.NotFound("service", "x"), 404),
    (errors.Conflict("x"), 409),
    (errors.OutOfSequence("service", "x", 1, 2), 409),
    (errors.FailedPrecondition("x"), 400),
    (errors.Unsupported("x"), 501),
    (errors.Forbidden("x"), 403),
    (errors.NotInCluster("x"), 503),
    (errors.AlreadyInCluster("x"), 503),
    (errors.NotLeader(None), 503),
    (errors.Unavailable("x"), 503),
    (errors.EngineDown("x"), 503),
    (errors.EngineError("x"), 500),
    (errors.BadState("x"), 500),
]


@pytest.mark.parametrize(("error", "status"), STATUS, ids=lambda each: type(each).__name__)
def test_errors_have_one_status_and_shape(error, status):
    response = api_errors.explain(error)
    assert response.status == status
    assert response == api_errors.to_response(error)
    assert str(error).encode() in response.body
    assert type(error).__name__.encode() in response.body


def test_a_defect_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture):
    response = api_errors.explain(RuntimeError("the secret"))
    assert response.status == 500
    assert b"the secret" not in response.body
    assert "the secret" in caplog.text
