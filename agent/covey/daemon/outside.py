# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to the managers of a cluster by a node that is not in it yet."""

from __future__ import annotations

from collections.abc import Sequence

from covey.client.managers import Managers, try_each
from covey.client.wire import JoinCall
from covey.model.admission import Admission
from covey.security import tls
from covey.security.tokens import check_root, parse_token


class Outside:
    """See ``covey.daemon.ports.Outside``."""

    async def join(self, addresses: Sequence[str], call: JoinCall) -> Admission:
        """Be let in by a token, through the first manager that answers and proves to be of the token's cluster."""
        parsed = parse_token(call.token.reveal().decode())

        async def through(address: str) -> Admission:
            async with Managers(tls.introduction_context) as strangers:
                root = await strangers.fetch_root(address, lambda pem: check_root(parsed, pem))
            context = tls.pinned_client_context(root)
            async with Managers(lambda: context) as managers:
                return await managers.join(address, call)

        return await try_each(addresses, through)
