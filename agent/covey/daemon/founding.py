# SPDX-License-Identifier: GPL-3.0-or-later
"""Founding a cluster: its authority, its tokens and its first state, all beside what counts until it is whole."""

from __future__ import annotations

from covey.api.bodies import InitRequest
from covey.control.cluster import Founder, TokenSecrets, certificate_lifetime, first_objects
from covey.daemon import addresses
from covey.daemon.places import Places, Settings
from covey.daemon.raft import open_store
from covey.model.admission import ManagerInfo
from covey.model.changes import Batch
from covey.model.clock import Clock
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import ca, keys, unlock
from covey.security.identity import Identity, assemble
from covey.security.tokens import SECRET_BYTES
from covey.store.raft import bootstrap

WRITE_TIMEOUT = 10.0


async def found(
    places: Places, settings: Settings, request: InitRequest, clock: Clock, hostname: str, raft_listen: str
) -> Identity:
    """A whole cluster of this one node in ``forming/``; the caller makes it count."""
    cluster_id, node_id, now = clock.new_id(), clock.new_id(), clock.now()
    root, key = ca.create_root(now), keys.new_key()
    lifetime = certificate_lifetime(request.spec)
    leaf = ca.sign(root, keys.make_csr(key), node_id, Role.MANAGER, cluster_id, now, lifetime)
    who = assemble(leaf, key, root.cert_pem)
    address = addresses.join(settings.advertise, addresses.split(settings.listen)[1])
    places.form(who, settings, (ManagerInfo(node_id=node_id, addr=address),))
    secrets = TokenSecrets(*(Secret(clock.secret(size)) for size in (SECRET_BYTES, SECRET_BYTES, unlock.KEY_BYTES)))
    founder = Founder(node_id, hostname, address, request.availability)
    changes = first_objects(cluster_id, root, secrets, request.spec, founder)
    directory = places.forming / "raft"
    bootstrap(directory, node_id, addresses.raft_address(settings.advertise, raft_listen))
    store = open_store(who, directory, settings.advertise, raft_listen, lambda: who)
    await store.start()
    try:
        await store.propose(Batch(clock.new_id(), now, changes), WRITE_TIMEOUT)
    finally:
        await store.stop()
    return who
