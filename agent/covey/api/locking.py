# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of the managers' disks: its key, opening it, and ``/covey/v1/cluster/lock``, which declares it."""

from __future__ import annotations

import msgspec

from covey.api import decode
from covey.api.bodies import DeclareLock, LockDeclared, UnlockBody
from covey.api.call import Call, ManagerCall
from covey.api.http import Response
from covey.control.cluster import with_unlock_key
from covey.model.changes import Update
from covey.model.errors import InvalidArgument
from covey.model.objects import Cluster
from covey.model.secret import Secret
from covey.model.spec import EncryptionConfig
from covey.security import unlock


async def show_key(call: ManagerCall) -> Response:
    """``GET /swarm/unlockkey``."""
    key = call.view.cluster.unlock_key
    return Response.json({"UnlockKey": unlock.show(key) if key else ""})


async def open_disk(call: Call) -> Response:
    """``POST /swarm/unlock``."""
    body = decode.body_as(UnlockBody, call.request.body)
    await call.node.unlock(unlock.parse(body.unlock_key.reveal().decode()))
    return Response(200)


async def declare(call: ManagerCall) -> Response:
    """``POST /covey/v1/cluster/lock``."""
    body = decode.body_as(DeclareLock, call.request.body)
    given = unlock.parse(body.unlock_key.reveal().decode()) if body.unlock_key else None
    if given and not body.auto_lock:
        raise InvalidArgument("a cluster that is not locked has no unlock key; leave it out", "UnlockKey")
    fresh = Secret(call.clock.secret(unlock.KEY_BYTES))

    async def act(this: ManagerCall) -> Response:
        after = put_lock(this.view.cluster, body.auto_lock, given, fresh)
        changed = after != this.view.cluster
        if changed and not body.dry_run:
            await this.propose(Update(after))
        return Response.json(
            LockDeclared(changed=changed, auto_lock=body.auto_lock, unlock_key_version=after.unlock_key_version)
        )

    return await call.retried(act)


def put_lock(cluster: Cluster, auto_lock: bool, given: Secret | None, fresh: Secret) -> Cluster:
    """The cluster with its managers locked or not, by the ``given`` key if there is one."""
    encryption = EncryptionConfig(auto_lock_managers=True) if auto_lock else None
    spec = msgspec.structs.replace(cluster.spec, encryption_config=encryption)
    wanted = msgspec.structs.replace(cluster, spec=spec)
    return with_unlock_key(wanted, given or fresh, rotate=given is not None and given != cluster.unlock_key)
