# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager that leads certifies itself, whatever its old certificate is worth; everybody else asks the managers."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from authority import Authority, own_issuer

from covey.control.signer import Signer
from covey.daemon.certifying import certify
from covey.daemon.clock import SystemClock
from covey.model.admission import Admission, ManagerInfo
from covey.model.changes import Batch
from covey.model.errors import Unavailable
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security import keys
from covey.security.identity import assemble
from covey.store.memory import MemoryStore

KNOWN = tuple(ManagerInfo(node_id=name, addr=f"{name}:2377") for name in ("a", "b"))
KEY = keys.new_key()


@dataclass
class Client:
    """Managers that answer, or do not."""

    answers: dict[str, Admission] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def renew(self, address: str, csr: bytes) -> Admission:
        self.asked.append(address)
        if address not in self.answers:
            raise Unavailable(f"manager {address} does not accept this node's certificate")
        return self.answers[address]


@pytest.fixture
async def manager():
    authority, store = Authority(to_id(900)), MemoryStore(to_id(1))
    await store.propose(Batch("", 0.0, authority.first_objects(1, "a:2377")), 1.0)
    return SimpleNamespace(store=store, signer=Signer(store, SystemClock(), own_issuer(SystemClock())))


async def test_a_lone_manager_needs_nobody(manager):
    client = Client()
    admission = await certify(manager, client, KNOWN, to_id(1), keys.make_csr(KEY))
    who = assemble(admission.certificate.encode(), KEY, admission.root_ca.encode())
    assert (who.node_id, who.role, client.asked) == (to_id(1), Role.MANAGER, [])


async def test_one_that_follows_asks_those_who_lead(manager):
    own = await certify(manager, Client(), KNOWN, to_id(1), keys.make_csr(KEY))
    manager.store.depose("b")
    client = Client({"b:2377": own})
    assert await certify(manager, client, KNOWN, to_id(1), keys.make_csr(KEY)) is own
    assert client.asked == ["a:2377", "b:2377"]


async def test_a_manager_that_does_not_lead_asks_itself_last(manager):
    manager.store.depose("b")
    client = Client()
    with pytest.raises(Unavailable):
        await certify(
            manager, client, (ManagerInfo(node_id=to_id(1), addr="own:2377"), *KNOWN), to_id(1), keys.make_csr(KEY)
        )
    assert client.asked == ["a:2377", "b:2377", "own:2377"]


async def test_a_worker_that_no_manager_answers_hears_what_each_said():
    with pytest.raises(Unavailable, match=r"a:2377 does not accept.*b:2377 does not accept"):
        await certify(None, Client(), KNOWN, "w", keys.make_csr(KEY))
