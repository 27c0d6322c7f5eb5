# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of the root is outside of the cluster: over real TLS, from the node that asks to the authority that signs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
from aiohttp import web
from cfssl import Cfssl, failed, root_of

from covey.client import wire
from covey.control.cluster import join_token
from covey.model.changes import Update
from covey.model.errors import NotSigned
from covey.model.ids import to_id
from covey.model.secret import Secret
from covey.model.spec import CAConfig, ExternalCA, Role
from covey.security import keys
from covey.security.identity import Identity, assemble

LEADER, WORKER = 1, 3
replace = msgspec.structs.replace


@pytest.fixture
async def outside(net) -> AsyncIterator[list[Cfssl]]:
    """Two that stand for the cluster's root, whose key the cluster has no more."""
    async with AsyncExitStack() as stack:
        authorities = [await Cfssl(root_of(net.authority.root)).start() for _ in range(2)]
        for each in authorities:
            stack.push_async_callback(each.stop)
        cluster = net.leader.store.view().cluster
        declared = [ExternalCA(url=each.url, ca_cert=each.root.pem.decode()) for each in authorities]
        spec = replace(cluster.spec, ca_config=CAConfig(external_cas=declared))
        await net.write(Update(replace(cluster, spec=spec, root_key=Secret(b""))))
        yield authorities


async def join(net, address: str, role: Role, key: Secret | None = None) -> Identity:
    key = key or keys.new_key()
    token = Secret(join_token(net.leader.store.view().cluster, role).encode())
    call = wire.JoinCall(csr=keys.make_csr(key).decode(), token=token, hostname="h9")
    admission = await net.as_stranger().join(address, call)
    who = assemble(admission.certificate.encode(), key, admission.root_ca.encode())
    assert (who.node_id, who.role) == (admission.node_id, role)
    return who


@pytest.mark.parametrize("role", Role)
async def test_nodes_join_and_renew_by_it_at_any_manager(net, outside, role):
    for host in (net.leader, net.follower):
        who = await join(net, host.address, role)
        net.identities[9] = who
        key = keys.new_key()
        renewed = await net.as_node(9).renew(host.address, keys.make_csr(key))
        assert assemble(renewed.certificate.encode(), key, renewed.root_ca.encode()).node_id == who.node_id
    assert [body["subject"]["names"][0]["OU"] for body in outside[0].asked] == [f"swarm-{role}"] * 4
    assert outside[0].callers == [to_id(LEADER)] * 4, "by the leader's own certificate"
    assert outside[1].asked == []


async def test_a_second_one_takes_over_and_the_first_is_back(net, outside):
    first, second = outside
    await first.stop()
    await join(net, net.leader.address, Role.WORKER)
    assert (len(first.asked), len(second.asked)) == (0, 1)
    await first.start()
    await join(net, net.leader.address, Role.WORKER)
    assert (len(first.asked), len(second.asked)) == (1, 1)


async def closed(_: web.Request) -> web.StreamResponse:
    return failed("closed for today", status=403)


async def test_where_none_signs_a_join_says_which_said_what_and_its_repeat_is_the_same_node(net, outside):
    for each in outside:
        each.answer = closed
    key = keys.new_key()
    with pytest.raises(NotSigned) as failure:
        await join(net, net.follower.address, Role.WORKER, key)
    for each in outside:
        assert f"{each.url}: it refuses with HTTP 403: closed for today" in str(failure.value)
    known = set(net.leader.store.view().nodes)
    outside[1].answer = None
    who = await join(net, net.follower.address, Role.WORKER, key)
    assert who.node_id in known
    assert set(net.leader.store.view().nodes) == known


async def test_what_was_not_asked_for_reaches_no_node(net, outside):
    for each in outside:
        each.spoil = lambda body: {**body, "subject": {**body["subject"], "CN": to_id(77)}}
    with pytest.raises(NotSigned, match=f"says CN {to_id(77)}"):
        await net.as_node(WORKER).renew(net.leader.address, keys.make_csr(keys.new_key()))
