# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a manager's Raft store of the node's identity."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from covey.daemon import addresses
from covey.model.secret import Secret
from covey.security import tls
from covey.security.identity import Identity
from covey.store.raft import RaftSettings, RaftStore


class _Contexts:
    """TLS contexts of whatever the identity is at that moment."""

    def __init__(self, who: Callable[[], Identity]) -> None:
        self._who = who

    def server(self) -> ssl.SSLContext:
        return tls.server_context(self._who(), "required")

    def client(self) -> ssl.SSLContext:
        return tls.client_context(self._who())


def open_store(
    who: Identity,
    directory: Path,
    advertise: str,
    raft_listen: str,
    current: Callable[[], Identity],
    unlock_key: Secret | None = None,
) -> RaftStore:
    """The store in ``directory``, not yet started; ``current`` is asked for the identity at each connection."""
    settings = RaftSettings(
        node_id=who.node_id,
        directory=directory,
        listen=addresses.split(raft_listen),
        address=addresses.raft_address(advertise, raft_listen),
        unlock_key=unlock_key,
    )
    return RaftStore(settings, _Contexts(current), lambda connection: tls.require_manager(connection).node_id)
