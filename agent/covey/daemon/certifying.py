# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a node gets its next certificate.  Never in it: when, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from covey.client.managers import try_each
from covey.model.admission import Admission, ManagerInfo
from covey.store.base import Store


class Signing(Protocol):
    """The signer of a manager that leads."""

    async def renew(self, node_id: str, csr: bytes) -> Admission: ...


class Local(Protocol):
    """This node as a manager."""

    @property
    def store(self) -> Store: ...
    @property
    def signer(self) -> Signing: ...


class Client(Protocol):
    """Calls to managers, with the certificate that this node has now."""

    async def renew(self, address: str, csr: bytes) -> Admission: ...


async def certify(
    manager: Local | None, client: Client, known: Iterable[ManagerInfo], node_id: str, csr: bytes
) -> Admission:
    """From its own signer if this node leads, so that a lone manager can come back after any time; else from others.

    This node's own cluster server comes last: it can only pass the call on, and waits for a leader first.
    """
    if manager is not None and manager.store.leadership().leading:
        return await manager.signer.renew(node_id, csr)
    others_first = sorted(known, key=lambda each: each.node_id == node_id)
    return await try_each([each.addr for each in others_first], lambda address: client.renew(address, csr))
