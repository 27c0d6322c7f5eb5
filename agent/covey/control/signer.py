# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets nodes in and signs their certificates; runs on the leader.

Invariant: the state knows a node, in the role certified, before its certificate exists.  Never in it: HTTP, files.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from dataclasses import dataclass, field, replace

import msgspec

from covey.control.authority import issuing
from covey.control.cluster import join_token
from covey.control.issuer import Issuer
from covey.control.limits import RateLimit
from covey.control.roster import managers_of, role_due
from covey.model.admission import Admission, ManagerInfo
from covey.model.changes import Batch, Change, Create, Update
from covey.model.clock import Clock
from covey.model.errors import AlreadyInCluster, FailedPrecondition, Forbidden, NotFound, OutOfSequence, Unavailable
from covey.model.objects import Cluster, Node, NodeDescription
from covey.model.spec import Availability, NodeSpec, Role
from covey.security import ca, keys, tokens
from covey.state.view import View
from covey.store.base import Store

WRITE_TIMEOUT = 5.0
#: Writes of unknown outcome are repeated this often.
ATTEMPTS = 3
#: Wrong tokens from one address, then it has to wait.
WRONG_TOKENS, WRONG_TOKENS_WINDOW = 5, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a node that is let in shall be."""

    role: Role
    hostname: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    availability: Availability = Availability.ACTIVE


class Signer:
    """Admissions and renewals; they are written one at a time, so that a repeated request cannot make two nodes."""

    def __init__(self, store: Store, clock: Clock, issuer: Issuer) -> None:
        self._store, self._clock, self._issuer = store, clock, issuer
        self._wrong_tokens = RateLimit(WRONG_TOKENS, WRONG_TOKENS_WINDOW)
        self._turn = asyncio.Lock()

    async def join(self, csr: bytes, token: str, wishes: Wishes, source: str) -> Admission:
        """Let in whoever holds one of the cluster's two tokens, which gives the role; ``source``: where it calls from.

        InvalidArgument where the request is malformed, Forbidden for a token that is not ours or not ours any more.
        """
        view = await self._store.barrier(WRITE_TIMEOUT)
        role = self._role_of_token(view.cluster, token, source)
        return await self.admit(csr, replace(wishes, role=role))

    async def admit(self, csr: bytes, wishes: Wishes) -> Admission:
        """Let in the holder of the request's key.

        The same key again gives the same node, with the wishes of the last request, until that node has registered:
        from then on it is AlreadyInCluster.  NotSigned if authorities outside of the cluster sign, and none did.
        """
        digest = key_digest(csr)
        async with self._turn:
            view = await self._store.barrier(WRITE_TIMEOUT)
            node = next((node for node in view.nodes.values() if node.joined_with == digest), None)
            if node is None:
                node_id = self._clock.new_id()
                await self._write(Create(_new_node(node_id, digest, wishes)))
                log.info("node %s (%s) is let in as %s", node_id, wishes.hostname or "no hostname", wishes.role)
            else:
                node_id = node.id
                await self._admit_again(node, wishes)
        return await self._certify(self._store.view(), node_id, csr)

    async def renew(self, node_id: str, csr: bytes) -> Admission:
        """A new certificate for a node, in the role it is due; NotSigned as ``admit``."""
        keys.public_key_of_csr(csr)
        async with self._turn:
            view = await self._store.barrier(WRITE_TIMEOUT)
            for _ in range(ATTEMPTS):
                node = _existing(view, node_id)
                due = role_due(node)
                if node.role is due:
                    break
                try:
                    await self._write(Update(msgspec.structs.replace(node, role=due)))
                    log.info("node %s becomes a %s", node_id, due)
                except OutOfSequence as race:
                    log.debug("a renewal was overtaken: %s", race)
                view = self._store.view()
        return await self._certify(self._store.view(), node_id, csr)

    async def _admit_again(self, node: Node, wishes: Wishes) -> None:
        if node.status.address or node.manager_address:
            raise AlreadyInCluster(
                f"this key is already that of node {node.id} ({node.description.hostname or 'no hostname'}), which is "
                "in the cluster; a host that joins anew leaves first and makes a new key"
            )
        wished = msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(_spec(wishes), name=node.spec.name),
            role=wishes.role,
        )
        if wished != node:
            await self._write(Update(wished))

    async def _certify(self, view: View, node_id: str, csr: bytes) -> Admission:
        """By what the state says at the moment; an authority outside may take its time, and holds nobody up."""
        node, cluster = _existing(view, node_id), view.cluster
        return Admission(
            node_id=node.id,
            cluster_id=cluster.id,
            role=node.role,
            certificate=(await self._issuer.certify(cluster, node, csr)).decode("ascii"),
            root_ca=issuing(cluster).trusted.decode("ascii"),
            managers=tuple(ManagerInfo(node_id=m.node_id, addr=m.address) for m in managers_of(view)),
        )

    def _role_of_token(self, cluster: Cluster, text: str, source: str) -> Role:
        now = self._clock.now()
        seconds = self._wrong_tokens.wait(source, now)
        if seconds:
            raise FailedPrecondition(f"too many wrong join tokens from {source}: wait {seconds:.0f} s and try again")
        token = tokens.parse_token(text)
        role = tokens.role_of(token, join_token(cluster, Role.WORKER), join_token(cluster, Role.MANAGER))
        if role is not None:
            return role
        self._wrong_tokens.record(source, now)
        log.warning("a join with a wrong token from %s was refused", source)
        if not hmac.compare_digest(token.digest, ca.root_digest(cluster.root_certificate)):
            raise Forbidden(
                f"the join token is of another cluster: its CA digest is not that of cluster {cluster.id}; "
                "take the token from a manager of the cluster to join (docker swarm join-token worker)"
            )
        raise Forbidden(
            f"the join token is not valid for cluster {cluster.id}: its secret does not match. Was it rotated? "
            "Get the current one on a manager: docker swarm join-token worker (or manager)"
        )

    async def _write(self, change: Change) -> None:
        """One transaction, repeated under the same request id while its outcome is unknown."""
        batch = Batch(self._clock.new_id(), self._clock.now(), (change,))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._store.propose(batch, WRITE_TIMEOUT)
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
                continue
            return


def key_digest(csr: bytes) -> str:
    """sha256 of the public key in a request, in hex: the same for each request with that key."""
    numbers = keys.public_key_of_csr(csr).public_numbers()
    return hashlib.sha256(f"{numbers.curve.name} {numbers.x:x} {numbers.y:x}".encode()).hexdigest()


def _existing(view: View, node_id: str) -> Node:
    node = view.nodes.get(node_id)
    if node is None:
        raise NotFound("node", node_id)
    return node


def _spec(wishes: Wishes) -> NodeSpec:
    return NodeSpec(role=wishes.role, labels=wishes.labels or None, availability=wishes.availability)


def _new_node(node_id: str, digest: str, wishes: Wishes) -> Node:
    return Node(
        id=node_id,
        spec=_spec(wishes),
        role=wishes.role,
        description=NodeDescription(hostname=wishes.hostname),
        joined_with=digest,
    )
