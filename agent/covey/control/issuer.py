# SPDX-License-Identifier: GPL-3.0-or-later
"""Has certificates signed: by the authorities outside of the cluster that stand for a root, else with the root's key.

A root whose key only such an authority has is one like any other; what it signs is checked before anybody gets it.
Never in it: who may have which certificate, the store, HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from covey.control import cfssl
from covey.control.authority import authorities_for, begin_rotation, issuing
from covey.control.cluster import TokenSecrets, certificate_lifetime
from covey.model.clock import Clock
from covey.model.errors import CoveyError, FailedPrecondition, InvalidArgument, NotSigned, Unavailable
from covey.model.ids import to_id
from covey.model.objects import Cluster, Node
from covey.model.spec import Role
from covey.security import ca, external, keys, rotation
from covey.security.ca import RootCA
from covey.security.external import Leaf
from covey.security.rotation import Sample

#: Seconds for all tries together; a node that asks waits somewhat longer.
PATIENCE = 12.0
#: Seconds between them, while there is hope.
PAUSES = (0.5, 1.0, 2.0)
#: The node that a sample is made for; there never is one.
NOBODY = to_id(1)

log = logging.getLogger(__name__)


class Outside(Protocol):
    """Calls to authorities outside of the cluster, as ``covey.client.authorities``."""

    async def post(self, url: str, root: bytes, body: bytes) -> tuple[int, bytes]: ...


class Issuer:
    """What a manager has signed.  The certificates follow the cluster that it is given; it keeps nothing."""

    def __init__(self, outside: Outside, clock: Clock) -> None:
        self._outside, self._clock = outside, clock

    async def certify(self, cluster: Cluster, node: Node, csr: bytes) -> bytes:
        """A certificate for that node, in the role the state says, with what follows it (PEM)."""
        by = issuing(cluster)
        return await self._leaf(cluster, by.root, Leaf(csr, node.id, node.role, cluster.id)) + by.chain

    async def try_out(self, cluster: Cluster) -> None:
        """NotSigned or InvalidArgument unless nodes of this cluster would get certificates that serve them."""
        rotation.try_out(await self._sample(cluster, issuing(cluster).root))

    async def begin_rotation(self, cluster: Cluster, new: RootCA, secrets: TokenSecrets) -> Cluster:
        """The cluster with ``new`` on its way in; a rotation under way is given up for it.

        InvalidArgument if nodes could not trust each other on the way, NotSigned if they would get no certificates.
        """
        old = RootCA(cluster.root_certificate, cluster.root_key)
        cross = await self._cross(cluster, old, new)
        of_old, of_new = await self._sample(cluster, old), await self._sample(cluster, new)
        rotation.rehearse(of_old, of_new, cross)
        return begin_rotation(cluster, new, cross, secrets, self._clock.now())

    async def _cross(self, cluster: Cluster, old: RootCA, new: RootCA) -> bytes:
        """The new root's name and key, signed by the old root."""
        if old.key_pem or old.cert_pem == new.cert_pem:
            return rotation.cross_sign(old, new.cert_pem, self._clock.now())
        if not new.key_pem:
            raise InvalidArgument(
                "the cluster has neither the key of its present root nor of this one, so the one cannot vouch for the "
                "other; rotate to a root of the cluster's own first (docker swarm ca --rotate), then to this one",
                "CAConfig.SigningCAKey",
            )
        request = cfssl.cross_request(external.root_request(new))
        urls = authorities_for(cluster, old.cert_pem)
        return await self._ask(
            urls, old.cert_pem, request, lambda signed: external.check_cross(signed, old.cert_pem, new.cert_pem)
        )

    async def _sample(self, cluster: Cluster, root: RootCA) -> Sample:
        key = keys.new_key()
        leaf = Leaf(keys.make_csr(key), NOBODY, Role.MANAGER, cluster.id)
        return Sample(root.cert_pem, await self._leaf(cluster, root, leaf), key)

    async def _leaf(self, cluster: Cluster, root: RootCA, wanted: Leaf) -> bytes:
        now, urls = self._clock.now(), authorities_for(cluster, root.cert_pem)
        if not urls and root.key_pem:
            lifetime = certificate_lifetime(cluster.spec)
            return ca.sign(root, wanted.csr, wanted.node_id, wanted.role, wanted.cluster_id, now, lifetime)
        keys.public_key_of_csr(wanted.csr)
        return await self._ask(
            urls,
            root.cert_pem,
            cfssl.leaf_request(wanted),
            lambda signed: external.check_leaf(signed, root.cert_pem, wanted, self._clock.now()),
        )

    async def _ask(self, urls: Sequence[str], root: bytes, body: bytes, check: Callable[[bytes], bytes]) -> bytes:
        """What the first of the authorities signs; NotSigned says what each of them said."""
        if not urls:
            raise FailedPrecondition(
                "the cluster does not have the root's key, and no authority outside of it is configured for that root: "
                "name one (docker swarm update --external-ca protocol=cfssl,url=https://...)"
            )
        problems: dict[str, CoveyError] = {url: Unavailable("it was not asked, for lack of time") for url in urls}
        try:
            async with asyncio.timeout(PATIENCE):
                for pause in (0.0, *PAUSES):
                    await asyncio.sleep(pause)
                    signed = await self._round(urls, root, body, check, problems)
                    if signed:
                        return signed
                    if not any(isinstance(problem, Unavailable) for problem in problems.values()):
                        break
        except TimeoutError:
            log.debug("no time is left to ask authorities again")
        told = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
        raise NotSigned(f"no external CA has signed the certificate. {told}")

    async def _round(
        self,
        urls: Sequence[str],
        root: bytes,
        body: bytes,
        check: Callable[[bytes], bytes],
        problems: dict[str, CoveyError],
    ) -> bytes:
        """Each of them once, until one signs; empty if none does, and ``problems`` says why."""
        for url in urls:
            try:
                return check(cfssl.certificate_in(*await self._outside.post(url, root, body)))
            except (NotSigned, Unavailable) as problem:
                log.warning("external CA %s: %s", url, problem)
                problems[url] = problem
        return b""
