# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's authority with the first state of its cluster, for tests over real TLS; certificates hold today."""

from __future__ import annotations

from dataclasses import dataclass, field

from covey.control.cluster import Founder, TokenSecrets, first_objects
from covey.control.issuer import Issuer
from covey.daemon.clock import SystemClock
from covey.model.changes import Change
from covey.model.clock import Clock
from covey.model.ids import to_id
from covey.model.secret import Secret
from covey.model.spec import ClusterSpec, Role
from covey.security import ca, keys
from covey.security.identity import Identity, assemble

DAY = 86_400.0


class Nowhere:
    """There is no authority outside of the cluster."""

    async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]:
        raise AssertionError(f"{url} was asked, though the cluster has its root's key")


def own_issuer(clock: Clock) -> Issuer:
    """Of a cluster that signs with its root's key."""
    return Issuer(Nowhere(), clock)


@dataclass
class Authority:
    """Signs identities for nodes by number."""

    cluster_id: str
    root: ca.RootCA = field(default_factory=lambda: ca.create_root(SystemClock().now()))

    def identity(self, number: int, role: Role, lifetime: float = DAY, begins: float = 0.0) -> Identity:
        """For a node, from ``begins`` seconds from now on, or rather from an hour before that; and for so long."""
        key = keys.new_key()
        now = SystemClock().now() + begins
        leaf = ca.sign(self.root, keys.make_csr(key), to_id(number), role, self.cluster_id, now, lifetime)
        return assemble(leaf, key, self.root.cert_pem)

    def first_objects(self, number: int, address: str) -> tuple[Change, ...]:
        secrets = TokenSecrets(Secret(b"w" * 16), Secret(b"m" * 16))
        return first_objects(self.cluster_id, self.root, secrets, ClusterSpec(), Founder(to_id(number), "h1", address))
