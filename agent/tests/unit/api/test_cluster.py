# SPDX-License-Identifier: GPL-3.0-or-later
"""/covey/v1/cluster: how far the state is, and a backup of it."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from apis import Client, Clock, FakeEngine, FakeLife, Swarm

from covey.api.bodies import FindRequest, RecoverRequest, RestoreRequest
from covey.api.http import Request, Response
from covey.api.router import ControlApi
from covey.model.secret import Secret
from covey.state.codec import encode_view
from covey.state.view import View
from covey.store import backup

PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_SCRYPT", {"n": 2, "r": 8, "p": 1})


async def ask(api: ControlApi, **body: object) -> Response:
    request = Request("POST", "/covey/v1/cluster/backup", body=json.dumps(body).encode())
    return await api.handle(request)


async def content(response: Response) -> View:
    assert response.status == 200
    assert not isinstance(response.body, bytes)
    data = b"".join([piece async for piece in response.body])
    return backup.read(io.BytesIO(data), Secret(PASSPHRASE.encode()))[1]


async def test_a_backup_holds_what_the_index_promised(swarm: Swarm):
    index = (await swarm.client.get("/covey/v1/cluster/index")).json["Index"]
    view = await content(await ask(swarm.api, Passphrase=PASSPHRASE, Index=index))
    assert view.index == index
    assert list(encode_view(view)) == list(encode_view(swarm.store.view()))


async def test_a_manager_that_is_behind_catches_up_first(swarm: Swarm):
    ahead = swarm.store.view().index + 1
    asked = asyncio.ensure_future(ask(swarm.api, Passphrase=PASSPHRASE, Index=ahead))
    await asyncio.sleep(0)
    assert not asked.done()
    swarm.world.commit()
    assert (await content(await asked)).index == ahead


async def test_a_manager_that_stays_behind_says_so(swarm: Swarm, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("covey.api.cluster.CATCH_UP", 0.0)
    answer = await swarm.client.post("/covey/v1/cluster/backup", {"Passphrase": PASSPHRASE, "Index": 10**9})
    assert answer.status == 503
    assert "--local" in answer.message


async def test_a_passphrase_worth_nothing_is_refused(swarm: Swarm):
    answer = await swarm.client.post("/covey/v1/cluster/backup", {"Passphrase": "short"})
    assert (answer.status, "shorter than 12" in answer.message) == (400, True)
    assert (await swarm.client.post("/covey/v1/cluster/backup", {})).status == 400


async def test_only_a_manager_has_something_to_back_up():
    outsider = Client(ControlApi(FakeLife(), FakeEngine(), Clock()))
    answer = await outsider.post("/covey/v1/cluster/backup", {"Passphrase": PASSPHRASE})
    assert (answer.status, "only a manager" in answer.message) == (503, True)


async def test_restore_takes_a_line_of_json_and_the_file_behind_it():
    life = FakeLife()
    head = json.dumps({"Passphrase": PASSPHRASE, "AdvertiseAddr": "10.0.0.9"}).encode()
    client = Client(ControlApi(life, FakeEngine(), Clock()))
    answer = await client.post("/covey/v1/cluster/restore", head + b"\n" + b"the\nfile")
    assert (answer.status, answer.json) == (200, {"NodeID": "restored"})
    secret = Secret(PASSPHRASE.encode())
    assert life.asked == [RestoreRequest(file=b"the\nfile", passphrase=secret, advertise_addr="10.0.0.9")]
    assert PASSPHRASE not in repr(life.asked)
    assert (await client.post("/covey/v1/cluster/restore", head)).status == 400


async def test_a_backup_may_be_larger_than_any_other_call():
    api = ControlApi(FakeLife(), FakeEngine(), Clock())
    assert api.body_limit("POST", "/covey/v1/cluster/restore") == 1 << 30
    assert api.body_limit("POST", "/services/create") == api.body_limit("GET", "/nothing") == 4 << 20


@pytest.mark.parametrize(
    ("path", "body", "wish"),
    [
        ("/covey/v1/cluster/recover", None, RecoverRequest()),
        ("/covey/v1/cluster/recover", {"AdvertiseAddr": "10.0.0.9"}, RecoverRequest(advertise_addr="10.0.0.9")),
        ("/swarm/init", {"ForceNewCluster": True, "ListenAddr": "0.0.0.0:2377"}, RecoverRequest()),
        (
            "/swarm/init",
            {"ForceNewCluster": True, "ListenAddr": "10.0.0.9:4000", "AdvertiseAddr": "10.0.0.9", "Spec": {}},
            RecoverRequest(listen_addr="10.0.0.9:4000", advertise_addr="10.0.0.9"),
        ),
    ],
)
async def test_recovery_by_our_path_and_by_the_peers(swarm: Swarm, path, body, wish):
    answer = await swarm.client.post(path, body)
    assert answer.status == 200
    assert "n1" in answer.text
    assert swarm.life.asked == [wish]


async def test_the_status_says_how_far_the_log_is(swarm: Swarm):
    term, index = swarm.store.position()
    status = (await swarm.client.get("/covey/v1/status")).json
    assert status["Raft"] == {"Term": term, "Index": index, "Epoch": 0}
    assert (await Client(ControlApi(FakeLife(), FakeEngine(), Clock())).get("/covey/v1/status")).json["Raft"] is None


async def test_find_hands_the_addresses_on(swarm: Swarm):
    answer = await swarm.client.post("/covey/v1/cluster/find", {"Addrs": ["10.0.0.9"]})
    assert (answer.status, answer.json) == (200, {"State": "active"})
    assert swarm.life.asked == [FindRequest(addrs=("10.0.0.9",))]
    assert (await swarm.client.post("/covey/v1/cluster/find", {"Addrs": []})).status == 400
