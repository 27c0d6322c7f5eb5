# SPDX-License-Identifier: GPL-3.0-or-later
"""``/swarm`` of the peer's API: founding, joining and leaving a cluster, its spec, its join tokens and its lock."""

from __future__ import annotations

import msgspec

from covey.api import authorities, decode, render, rotate, rules
from covey.api.bodies import (
    DEFAULT_LISTEN,
    InitBody,
    InitRequest,
    JoinBody,
    JoinRequest,
    RecoverRequest,
)
from covey.api.call import Call, ManagerCall, version_of
from covey.api.http import Query, Response
from covey.api.ports import LocalState
from covey.control.authority import wanted_root, with_key
from covey.control.cluster import TokenSecrets, with_tokens, with_unlock_key
from covey.model.changes import Update
from covey.model.errors import FailedPrecondition, InvalidArgument
from covey.model.objects import Cluster
from covey.model.secret import Secret
from covey.model.spec import Availability, ClusterSpec, EncryptionConfig, Role
from covey.security import unlock as unlocking
from covey.security.ca import RootCA
from covey.security.tokens import SECRET_BYTES

LEAVING_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Demote it first "
    "(docker node demote, on another manager), so that the others do not miss its vote. Use `--force` to leave "
    "nevertheless; if it is the last manager, that erases all current state of the swarm."
)
LEAVING_LOCKED = (
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message: the other managers "
    "will miss this one's vote, and if it is the last manager, that erases all current state of the swarm."
)


async def init(call: Call) -> Response:
    body = decode.body_as(InitBody, call.request.body)
    if body.force_new_cluster:
        return Response.json(await call.node.recover(_recovery(body)))
    spec = body.spec or ClusterSpec()
    if body.auto_lock_managers:
        spec = msgspec.structs.replace(spec, encryption_config=EncryptionConfig(auto_lock_managers=True))
    request = InitRequest(
        listen_addr=body.listen_addr,
        advertise_addr=body.advertise_addr,
        availability=body.availability or Availability.ACTIVE,
        spec=authorities.of_others(rotate.without_root(rules.checked_cluster(spec))),
    )
    return Response.json(await call.node.init(request))


def _recovery(body: InitBody) -> RecoverRequest:
    """The client always sends where to listen; its default is no wish to change that."""
    listen = "" if body.listen_addr == DEFAULT_LISTEN else body.listen_addr
    return RecoverRequest(advertise_addr=body.advertise_addr, listen_addr=listen)


async def join(call: Call) -> Response:
    body = decode.body_as(JoinBody, call.request.body)
    if not body.remote_addrs:
        raise InvalidArgument("at least one manager's address (host:2377) is needed to join", "RemoteAddrs")
    if not body.join_token:
        raise InvalidArgument("a join token is needed; `docker swarm join-token` on a manager shows it", "JoinToken")
    await call.node.join(
        JoinRequest(
            remote_addrs=body.remote_addrs,
            token=body.join_token,
            listen_addr=body.listen_addr,
            advertise_addr=body.advertise_addr,
            availability=body.availability or Availability.ACTIVE,
        )
    )
    return Response(200)


async def leave(call: Call) -> Response:
    force, report = call.request.query.flag("force"), call.node.status()
    if report.state is LocalState.INACTIVE:
        return Response.error(503, "This node is not part of a swarm")
    if report.state is LocalState.LOCKED and not force:
        return Response.error(503, LEAVING_LOCKED)
    if report.role is Role.MANAGER and not force:
        return Response.error(503, LEAVING_MANAGER)
    await call.node.leave(force)
    return Response(200)


async def inspect(call: ManagerCall) -> Response:
    return Response.json(render.cluster_with_tokens(call.view.cluster))


async def update(call: ManagerCall) -> Response:
    version = version_of(call.request, "swarm")
    before = call.view.cluster
    spec = rules.checked_cluster(decode.body_as(ClusterSpec, call.request.body))
    spec = authorities.checked(spec, before.root_certificate)
    spec, root = rotate.asked_root(before, spec, call.clock.now())
    cluster = msgspec.structs.replace(before, version=version, spec=spec)
    cluster = await _with_root(cluster, root, call)
    authorities.check_signers(cluster)
    if root is None and authorities.differ(before, cluster):
        await call.managing.issuer.try_out(cluster)
    await call.propose(Update(_relocked(_rotated(cluster, call), call)))
    return Response(200)


async def _with_root(cluster: Cluster, root: RootCA | None, call: ManagerCall) -> Cluster:
    """The cluster with that root on its way in; with another key, or none, if it is the one it certifies by."""
    issuer = call.managing.issuer
    if root is None:
        return cluster
    if root.cert_pem != wanted_root(cluster):
        return await issuer.begin_rotation(cluster, root, _both(call))
    cluster = with_key(cluster, root)
    await issuer.try_out(cluster)
    return cluster


async def rotation(call: ManagerCall) -> Response:
    return Response.json(rotate.progress(call.view))


def _both(call: ManagerCall) -> TokenSecrets:
    worker, manager = (Secret(call.clock.secret(SECRET_BYTES)) for _ in Role)
    return TokenSecrets(worker, manager)


def _rotated(cluster: Cluster, call: ManagerCall) -> Cluster:
    """The cluster with new join tokens where the query asks for them; the old ones are worthless from then on."""
    query: Query = call.request.query
    names = {"worker": "rotateWorkerToken", "manager": "rotateManagerToken"}
    asked = {role: Secret(call.clock.secret(SECRET_BYTES)) for role, name in names.items() if query.flag(name)}
    return with_tokens(cluster, TokenSecrets(**asked))


def _relocked(cluster: Cluster, call: ManagerCall) -> Cluster:
    """The cluster with the unlock key it is to have."""
    rotate = call.request.query.flag("rotateManagerUnlockKey")
    if rotate and not cluster.spec.auto_lock:
        raise FailedPrecondition("cannot rotate the unlock key because autolock is not turned on")
    return with_unlock_key(cluster, Secret(call.clock.secret(unlocking.KEY_BYTES)), rotate=rotate)
