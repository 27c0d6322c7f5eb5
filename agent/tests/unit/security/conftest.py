# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters with real certificates, made once."""

from dataclasses import dataclass

import pytest

from covey.model.ids import to_id
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import ca, keys
from covey.security.identity import Identity, assemble

NOW = 1_800_000_000.0
DAY = 86_400.0


@dataclass(frozen=True)
class Cluster:
    """One authority and the nodes it signs."""

    cluster_id: str
    root: ca.RootCA

    def node(self, number: int, role: Role, *, now: float = NOW, expiry: float = 90 * DAY) -> Identity:
        key = keys.new_key()
        return self.signed(key, number, role, now=now, expiry=expiry)

    def signed(self, key: Secret, number: int, role: Role, *, now: float, expiry: float) -> Identity:
        csr = keys.make_csr(key)
        leaf = ca.sign(self.root, csr, to_id(number), role, self.cluster_id, now, expiry)
        return assemble(leaf, key, self.root.cert_pem)


@pytest.fixture(scope="session")
def ours() -> Cluster:
    return Cluster(to_id(7), ca.create_root(NOW))


@pytest.fixture(scope="session")
def foreign() -> Cluster:
    return Cluster(to_id(8), ca.create_root(NOW))
