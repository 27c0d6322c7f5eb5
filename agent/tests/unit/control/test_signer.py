# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - the store's own signature
"""Who is let in, in which role, under which node id; what a renewal says; which tokens open the door."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from authority import own_issuer

from covey.control import cluster as clusters
from covey.control.cluster import Founder, TokenSecrets, first_objects, join_token, rotate_tokens
from covey.control.signer import Signer, Wishes, key_digest
from covey.model.changes import Batch, ObserveNode, Update
from covey.model.errors import (
    AlreadyInCluster,
    FailedPrecondition,
    Forbidden,
    InvalidArgument,
    NotFound,
    NotLeader,
    Unavailable,
)
from covey.model.ids import to_id
from covey.model.objects import NodeState, NodeStatus
from covey.model.secret import Secret
from covey.model.spec import Availability, CAConfig, ClusterSpec, NodeSpec, Role
from covey.model.units import HOUR
from covey.security import ca, keys
from covey.security.certificate import read_certificate, read_peer
from covey.security.identity import assemble
from covey.store.memory import MemoryStore

NOW = 1_800_000_000.0
CLUSTER, FIRST = to_id(1), to_id(2)
SECRETS = TokenSecrets(Secret(b"w" * 16), Secret(b"m" * 16))
H2 = Wishes(role=Role.WORKER, hostname="h2")
replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def root():
    return ca.create_root(NOW)


@pytest.fixture(scope="module")
def key():
    return keys.new_key()


class Flaky(MemoryStore):
    """Takes its time; loses the answers to its next ``lost`` writes, which take effect all the same."""

    lost = 0

    async def propose(self, batch: Batch, timeout: float) -> int:
        await asyncio.sleep(0.01)
        index = await super().propose(batch, timeout)
        if self.lost:
            self.lost -= 1
            raise Unavailable("the answer was lost")
        return index


@pytest.fixture
async def store(root):
    store = Flaky("manager1")
    spec = ClusterSpec(ca_config=CAConfig(node_cert_expiry=2 * HOUR))
    changes = first_objects(CLUSTER, root, SECRETS, spec, Founder(FIRST, "h1", "192.0.2.9:2377"))
    await store.propose(Batch("", NOW, changes), 1)
    return store


@pytest.fixture
def signer(store, clock):
    return Signer(store, clock, own_issuer(clock))


def token(store, role: Role = Role.WORKER) -> str:
    return join_token(store.view().cluster, role)


async def write(store, change) -> None:
    await store.propose(Batch("", NOW, (change,)), 1)


async def test_a_token_lets_a_node_in_with_its_role(signer, store, key, root):
    for role in Role:
        fresh = key if role is Role.WORKER else keys.new_key()
        admission = await signer.join(keys.make_csr(fresh), token(store, role), H2, "192.0.2.2")
        node = store.view().nodes[admission.node_id]
        assert (node.role, node.spec.role, node.description.hostname) == (role, role, "h2")
        identity = assemble(admission.certificate.encode(), fresh, admission.root_ca.encode())
        assert (identity.node_id, identity.cluster_id, identity.role) == (node.id, CLUSTER, role)
        assert admission.root_ca.encode() == root.cert_pem
        assert [(m.node_id, m.addr) for m in admission.managers] == [(FIRST, "192.0.2.9:2377")]


async def test_a_certificate_lasts_as_long_as_the_cluster_says(signer, key):
    admission = await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))
    peer = read_peer(read_certificate(admission.certificate.encode()))
    assert peer.not_after == pytest.approx(NOW + 7200, abs=60)
    assert peer.not_before == pytest.approx(NOW - 3600, abs=60)


async def test_admitting_takes_labels_and_availability(signer, store, key):
    wishes = Wishes(role=Role.WORKER, hostname="h2", labels={"disk": "ssd"}, availability=Availability.DRAIN)
    admission = await signer.admit(keys.make_csr(key), wishes)
    spec = store.view().nodes[admission.node_id].spec
    assert spec == NodeSpec(role=Role.WORKER, labels={"disk": "ssd"}, availability=Availability.DRAIN)


async def test_the_same_key_again_is_the_same_node_with_the_newest_wishes(signer, store, key):
    first = await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))
    second = await signer.admit(keys.make_csr(key), Wishes(role=Role.MANAGER, labels={"a": "b"}))
    assert second.node_id == first.node_id
    node = store.view().nodes[first.node_id]
    assert (node.role, node.spec.labels, second.role) == (Role.MANAGER, {"a": "b"}, Role.MANAGER)
    assert len(store.view().nodes) == 2


async def test_the_same_key_at_the_same_time_is_one_node(signer, store, key):
    wishes = Wishes(role=Role.WORKER)
    admissions = await asyncio.gather(*(signer.admit(keys.make_csr(key), wishes) for _ in range(5)))
    assert len({admission.node_id for admission in admissions}) == 1
    assert len(store.view().nodes) == 2


async def test_a_lost_answer_makes_no_second_node(signer, store, key):
    store.lost = 2
    await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))
    assert len(store.view().nodes) == 2
    store.lost = 99
    with pytest.raises(Unavailable):
        await signer.admit(keys.make_csr(keys.new_key()), Wishes(role=Role.WORKER))


async def test_once_registered_a_key_is_not_admitted_again(signer, store, key):
    admission = await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))
    await write(store, ObserveNode(admission.node_id, NodeStatus(state=NodeState.READY, address="192.0.2.2")))
    with pytest.raises(AlreadyInCluster, match=admission.node_id):
        await signer.join(keys.make_csr(key), token(store, Role.MANAGER), H2, "192.0.2.2")


async def test_a_foreign_token_is_told_from_a_rotated_one_and_from_none(signer, store, key):
    csr, old = keys.make_csr(key), token(store)
    foreign = old.replace(old.split("-")[2], "1" * 50)
    with pytest.raises(Forbidden, match="of another cluster"):
        await signer.join(csr, foreign, H2, "a")
    await write(store, rotate_tokens(store.view().cluster, TokenSecrets(worker=Secret(b"n" * 16))))
    with pytest.raises(Forbidden, match="Was it rotated"):
        await signer.join(csr, old, H2, "b")
    with pytest.raises(InvalidArgument, match="not a join token"):
        await signer.join(csr, "hello", H2, "c")
    assert len(store.view().nodes) == 1
    await signer.join(csr, token(store), H2, "d")
    await signer.join(csr, token(store, Role.MANAGER), H2, "e")


async def test_no_error_tells_the_token(signer, store, key):
    secret = "2" * 25
    wrong = "-".join([*token(store).split("-")[:3], secret])
    with pytest.raises(Forbidden) as refusal:
        await signer.join(keys.make_csr(key), wrong, H2, "a")
    assert secret not in str(refusal.value)


async def test_an_address_with_many_wrong_tokens_has_to_wait(signer, store, key):
    csr, wrong = keys.make_csr(key), "-".join([*token(store).split("-")[:3], "2" * 25])
    for _ in range(5):
        with pytest.raises(Forbidden):
            await signer.join(csr, wrong, H2, "192.0.2.66")
    with pytest.raises(FailedPrecondition, match="wait 60 s"):
        await signer.join(csr, token(store), H2, "192.0.2.66")
    await signer.join(csr, token(store), H2, "192.0.2.2")
    await asyncio.sleep(61)
    await signer.join(csr, token(store), H2, "192.0.2.66")


async def test_a_request_that_proves_nothing_changes_nothing(signer, store):
    with pytest.raises(InvalidArgument, match="CSR"):
        await signer.join(b"-----BEGIN CERTIFICATE REQUEST-----\n", token(store), H2, "a")
    assert len(store.view().nodes) == 1


async def test_a_renewal_says_the_role_wished_for(signer, store, key):
    admission = await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))
    node_id, fresh = admission.node_id, keys.new_key()
    assert (await signer.renew(node_id, keys.make_csr(fresh))).role is Role.WORKER
    node = store.view().nodes[node_id]
    await write(store, Update(replace(node, spec=NodeSpec(role=Role.MANAGER))))
    renewed = await signer.renew(node_id, keys.make_csr(fresh))
    assert renewed.role is store.view().nodes[node_id].role is Role.MANAGER
    assert assemble(renewed.certificate.encode(), fresh, renewed.root_ca.encode()).node_id == node_id


async def test_a_manager_stays_one_until_its_vote_is_gone(signer, store, key):
    first = store.view().nodes[FIRST]
    await write(store, Update(replace(first, spec=NodeSpec(role=Role.WORKER))))
    assert (await signer.renew(FIRST, keys.make_csr(key))).role is Role.MANAGER
    await write(store, Update(replace(store.view().nodes[FIRST], manager_address="")))
    assert (await signer.renew(FIRST, keys.make_csr(key))).role is Role.WORKER


async def test_a_removed_node_gets_no_new_certificate(signer, key):
    with pytest.raises(NotFound):
        await signer.renew(to_id(99), keys.make_csr(key))


async def test_only_the_leader_signs(signer, store, key):
    store.depose("manager2")
    with pytest.raises(NotLeader):
        await signer.admit(keys.make_csr(key), Wishes(role=Role.WORKER))


def test_a_key_has_one_digest_whatever_the_request(key):
    assert key_digest(keys.make_csr(key)) == key_digest(keys.make_csr(key))
    assert key_digest(keys.make_csr(key)) != key_digest(keys.make_csr(keys.new_key()))


def test_rotation_changes_the_token_asked_for_only(root):
    cluster = first_objects(CLUSTER, root, SECRETS, ClusterSpec(), Founder(FIRST, "h1", "a:2377"))[0].object
    rotated = rotate_tokens(cluster, TokenSecrets(manager=Secret(b"x" * 16))).object
    assert rotated.worker_token == cluster.worker_token
    assert rotated.manager_token != cluster.manager_token
    assert join_token(cluster, Role.WORKER).startswith("SWMTKN-1-" + ca.root_digest(root.cert_pem))


def test_certificates_last_ninety_days_unless_told_otherwise():
    assert clusters.certificate_lifetime(ClusterSpec()) == 90 * 86400
