# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to the managers of a cluster by a node that is not in it yet, or not yet in the role it shall have."""

from __future__ import annotations

from collections.abc import Sequence

from covey.client.managers import Managers, try_each
from covey.model.admission import Admission, ManagerInfo
from covey.model.secret import Secret
from covey.security import tls
from covey.security.identity import Identity
from covey.security.tokens import check_root, parse_token


class Outside:
    """See ``covey.daemon.life.Outside``."""

    async def join(self, addresses: Sequence[str], token: Secret, csr: bytes, hostname: str) -> Admission:
        """Be let in by a token, through the first manager that answers and proves to be of the token's cluster."""
        parsed = parse_token(token.reveal().decode())

        async def through(address: str) -> Admission:
            async with Managers(tls.introduction_context) as strangers:
                root = await strangers.fetch_root(address, lambda pem: check_root(parsed, pem))
            context = tls.pinned_client_context(root)
            async with Managers(lambda: context) as managers:
                return await managers.join(address, csr, token, hostname)

        return await try_each(addresses, through)

    async def renew(self, who: Identity, managers: Sequence[ManagerInfo], csr: bytes) -> Admission:
        """A new certificate for this node, in the role it is due."""
        context = tls.client_context(who)
        async with Managers(lambda: context) as client:
            return await try_each([m.addr for m in managers], lambda address: client.renew(address, csr))
