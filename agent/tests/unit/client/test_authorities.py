# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to an authority outside of the cluster, over real TLS on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from authority import Authority
from cfssl import Cfssl, make_root

from covey.client.authorities import ANSWER_LIMIT, Authorities
from covey.model.errors import NotSigned, Unavailable
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security import keys, tls

CLUSTER, ROOT = Authority(to_id(900)), make_root()
WHO = CLUSTER.identity(1, Role.MANAGER)
BODY = json.dumps({"certificate_request": keys.make_csr(keys.new_key()).decode(), "hosts": ["x"]}).encode()


@pytest.fixture
async def outside() -> AsyncIterator[Cfssl]:
    authority = await Cfssl(ROOT, [CLUSTER.root.cert_pem]).start()
    yield authority
    await authority.stop()


@pytest.fixture
def client() -> Authorities:
    return Authorities(lambda root: tls.authority_context(WHO, root))


async def test_it_is_asked_with_the_manager_s_certificate(outside: Cfssl, client: Authorities):
    status, body = await client.post(outside.url, ROOT.pem, BODY)
    assert (status, json.loads(body)["success"]) == (200, True)
    assert outside.asked == [json.loads(BODY)]
    assert outside.callers == [to_id(1)]


async def test_one_that_is_not_of_that_root_is_not_asked(outside: Cfssl, client: Authorities):
    with pytest.raises(NotSigned, match="not to be trusted"):
        await client.post(outside.url, make_root("Another").pem, BODY)
    assert outside.asked == []


async def test_one_that_is_another_host_is_not_asked(outside: Cfssl, client: Authorities):
    with pytest.raises(NotSigned, match=r"not to be trusted.*name the host"):
        await client.post(outside.url.replace("127.0.0.1", "localhost"), ROOT.pem, BODY)
    assert outside.asked == []


async def test_one_that_does_not_know_the_cluster_s_root(client: Authorities):
    stranger = await Cfssl(ROOT).start()
    with pytest.raises(Unavailable, match="does it accept certificates of this cluster's root"):
        await client.post(stranger.url, ROOT.pem, BODY)
    await stranger.stop()


async def test_one_that_is_not_there(outside: Cfssl, client: Authorities):
    await outside.stop()
    with pytest.raises(Unavailable, match="it does not answer"):
        await client.post(outside.url, ROOT.pem, BODY)


async def test_one_that_says_nothing(outside: Cfssl):
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    outside.answer = silent
    hasty = Authorities(lambda root: tls.authority_context(WHO, root), seconds=0.3)
    with pytest.raises(Unavailable, match=r"within 0\.3 s"):
        await hasty.post(outside.url, ROOT.pem, BODY)


async def test_one_that_says_too_much(outside: Cfssl, client: Authorities):
    async def talks(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * (ANSWER_LIMIT + 1))

    outside.answer = talks
    with pytest.raises(NotSigned, match="larger than 262144 bytes"):
        await client.post(outside.url, ROOT.pem, BODY)


@pytest.mark.parametrize("status", [301, 400, 500])
async def test_any_status_is_brought_back(outside: Cfssl, client: Authorities, status: int):
    async def answers(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="why", headers={"Location": "https://elsewhere/"})

    outside.answer = answers
    assert await client.post(outside.url, ROOT.pem, BODY) == (status, b"why")
