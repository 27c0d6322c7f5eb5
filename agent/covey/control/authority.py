# SPDX-License-Identifier: GPL-3.0-or-later
"""Which root signs and whom nodes trust, during a rotation of the root and outside of one; and how one begins.

Never in it: when a rotation is over, which is the planner's to say (``covey.plan.rotation``); the store.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from covey.control.cluster import TokenSecrets, certificate_lifetime, tokens_of
from covey.model.errors import FailedPrecondition
from covey.model.objects import Cluster, Node, NodeTLS, RootRotation
from covey.model.secret import Secret
from covey.security import ca
from covey.security.ca import RootCA
from covey.security.certificate import is_issued_by, issuer_info, issuer_of, read_certificates
from covey.security.identity import Identity

NO_KEY = (
    "the key of the root is not in the cluster, since an authority outside of it signs; that one knows managers by "
    "their certificates, and this host has none. Recover the cluster on a manager that is left (covey cluster recover)"
)


@dataclass(frozen=True, slots=True)
class Issuing:
    """Who signs today: ``chain`` follows each certificate, ``trusted`` is whom its holder is to trust (PEM)."""

    root: RootCA
    chain: bytes
    trusted: bytes


def issuing(cluster: Cluster) -> Issuing:
    """The cluster's root, or the one on its way in; then nodes trust both."""
    old = RootCA(cluster.root_certificate, cluster.root_key)
    if cluster.rotation is None:
        return Issuing(old, b"", old.cert_pem)
    new = RootCA(cluster.rotation.certificate, cluster.rotation.key)
    both = old.cert_pem if new.cert_pem == old.cert_pem else old.cert_pem + new.cert_pem
    return Issuing(new, cluster.rotation.cross_certificate, both)


def certify(cluster: Cluster, node: Node, csr: bytes, now: float) -> bytes:
    """A certificate for that node, in the role the state says, with what follows it (PEM); with the root's own key.

    FailedPrecondition if the cluster does not have it.
    """
    by = issuing(cluster)
    if not by.root.key_pem:
        raise FailedPrecondition(NO_KEY)
    return ca.sign(by.root, csr, node.id, node.role, cluster.id, now, certificate_lifetime(cluster.spec)) + by.chain


def authorities_for(cluster: Cluster, root_pem: bytes) -> list[str]:
    """The URLs of the authorities outside of the cluster that sign under this root, in the order they are asked."""
    config = cluster.spec.ca_config
    declared = config.external_cas if config and config.external_cas else []
    return [each.url for each in declared if (each.ca_cert or "").encode() == root_pem]


def with_key(cluster: Cluster, root: RootCA) -> Cluster:
    """The cluster with that key, or without one, for the root that it certifies by already."""
    if cluster.rotation is None:
        return msgspec.structs.replace(cluster, root_key=root.key_pem)
    return msgspec.structs.replace(cluster, rotation=msgspec.structs.replace(cluster.rotation, key=root.key_pem))


def begin_rotation(cluster: Cluster, new: RootCA, cross: bytes, secrets: TokenSecrets, now: float) -> Cluster:
    """The cluster with ``new`` on its way in; a rotation under way is given up for it.

    ``cross`` is its name and key signed by the present root.  Both secrets are needed.
    """
    issuer = issuer_info(new.cert_pem)
    worker, manager = tokens_of(new.cert_pem, secrets, (Secret(b""), Secret(b"")))
    begun = RootRotation(
        certificate=new.cert_pem,
        key=new.key_pem,
        cross_certificate=cross,
        issuer_subject=issuer.subject,
        issuer_public_key=issuer.public_key,
        worker_token=worker,
        manager_token=manager,
        started_at=now,
    )
    return msgspec.structs.replace(cluster, rotation=begun)


def wanted_root(cluster: Cluster) -> bytes:
    """The certificate of the root that all nodes are to be certified by."""
    return cluster.rotation.certificate if cluster.rotation else cluster.root_certificate


def tls_of(who: Identity) -> NodeTLS:
    """What a node says of its certificate."""
    leaf, *_ = read_certificates(who.certificate)
    by = next(root for root in read_certificates(who.root) if is_issued_by(leaf, root))
    issuer = issuer_of(by)
    return NodeTLS(trust_root=who.root, issuer_subject=issuer.subject, issuer_public_key=issuer.public_key)
