# SPDX-License-Identifier: GPL-3.0-or-later
"""/covey/v1/cluster: how far the state is, and a backup of it."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from apis import Client, Clock, FakeEngine, FakeLife, Swarm

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
