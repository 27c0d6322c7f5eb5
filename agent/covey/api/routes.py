# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of what the control API answers.  Every other path is the local engine's.

Never in it: how a call is answered, and by which manager.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from covey.api import cluster, convergence, declare, local, locking, nodes, notbuilt, services, swarm
from covey.api.call import Call, ManagerCall
from covey.api.dependencies import FAMILIES as DEPENDENCIES
from covey.api.dependencies import Family
from covey.api.http import Response

#: All under these is ours, so that the engine never answers for a cluster it knows nothing of.
FAMILIES = ("services", "tasks", "nodes", "swarm", "secrets", "configs", "covey")
#: The largest body of a call; of one that carries a whole cluster.
BODY_LIMIT, CLUSTER_LIMIT = 4 << 20, 1 << 30
_PLACE = re.compile(r"\{(\w+)(:path)?\}")

NodeHandler = Callable[[Call], Awaitable[Response]]
LeaderHandler = Callable[[ManagerCall], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method (``*`` for any) and a path, in which ``{x}`` is one segment and ``{x:path}`` one or more.

    Exactly one handler: ``anywhere`` answers on every node, ``leader`` needs the cluster's state.
    """

    method: str
    path: str
    anywhere: NodeHandler | None = None
    leader: LeaderHandler | None = None
    body_limit: int = BODY_LIMIT
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = _PLACE.sub(lambda place: f"(?P<{place[1]}>{'.+' if place[2] else '[^/]+'})", self.path)
        object.__setattr__(self, "pattern", re.compile(text))

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The values of the places; None when this is another call."""
        if self.method not in ("*", method):
            return None
        found = self.pattern.fullmatch(path)
        return None if found is None else found.groupdict()


def _of(family: Family) -> tuple[Route, ...]:
    """The paths of secrets, or of configs."""
    at, ours = f"/{family.kind}s", f"/covey/v1/{family.kind}s"
    return (
        Route("GET", at, leader=family.list_),
        Route("POST", f"{at}/create", leader=family.create),
        Route("GET", at + "/{id}", leader=family.inspect),
        Route("POST", at + "/{id}/update", leader=family.update),
        Route("DELETE", at + "/{id}", leader=family.delete),
        Route("POST", f"{ours}/prune", leader=family.prune),
        Route("GET", ours + "/{id}/values", leader=family.values),
        Route("POST", ours + "/{id}/rollback", leader=family.rollback),
    )


ROUTES = (
    Route("GET", "/_ping", anywhere=local.ping),
    Route("HEAD", "/_ping", anywhere=local.ping),
    Route("GET", "/version", anywhere=local.version),
    Route("GET", "/info", anywhere=local.info),
    Route("GET", "/distribution/{image:path}/json", anywhere=local.distribution),
    Route("POST", "/networks/create", anywhere=local.create_network),
    #
    Route("GET", "/swarm", leader=swarm.inspect),
    Route("POST", "/swarm/init", anywhere=swarm.init),
    Route("POST", "/swarm/join", anywhere=swarm.join),
    Route("POST", "/swarm/leave", anywhere=swarm.leave),
    Route("POST", "/swarm/update", leader=swarm.update),
    Route("GET", "/swarm/unlockkey", leader=locking.show_key),
    Route("POST", "/swarm/unlock", anywhere=locking.open_disk),
    #
    Route("GET", "/nodes", leader=nodes.list_),
    Route("GET", "/nodes/{id}", leader=nodes.inspect),
    Route("POST", "/nodes/{id}/update", leader=nodes.update),
    Route("DELETE", "/nodes/{id}", leader=nodes.delete),
    #
    Route("GET", "/services", leader=services.list_),
    Route("POST", "/services/create", leader=services.create),
    Route("GET", "/services/{id}", leader=services.inspect),
    Route("POST", "/services/{id}/update", leader=services.update),
    Route("DELETE", "/services/{id}", leader=services.delete),
    Route("GET", "/services/{id}/logs", anywhere=notbuilt.answer),
    Route("GET", "/tasks", leader=services.list_tasks),
    Route("GET", "/tasks/{id}", leader=services.inspect_task),
    Route("GET", "/tasks/{id}/logs", anywhere=notbuilt.answer),
    #
    *_of(DEPENDENCIES["secret"]),
    *_of(DEPENDENCIES["config"]),
    #
    Route("GET", "/covey/v1/status", anywhere=local.status),
    Route("POST", "/covey/v1/renew", anywhere=local.renew),
    Route("GET", "/covey/v1/rotation", leader=swarm.rotation),
    Route("POST", "/covey/v1/join/request", anywhere=local.request_join),
    Route("POST", "/covey/v1/join/complete", anywhere=local.complete_join),
    Route("POST", "/covey/v1/join/admit", leader=declare.admit),
    Route("GET", "/covey/v1/cluster/index", leader=cluster.index),
    Route("POST", "/covey/v1/cluster/backup", anywhere=cluster.backup),
    Route("POST", "/covey/v1/cluster/restore", anywhere=cluster.restore, body_limit=CLUSTER_LIMIT),
    Route("POST", "/covey/v1/cluster/recover", anywhere=cluster.recover),
    Route("POST", "/covey/v1/cluster/find", anywhere=cluster.find),
    Route("POST", "/covey/v1/services/declare", leader=declare.services),
    Route("POST", "/covey/v1/secrets/declare", leader=declare.secrets),
    Route("POST", "/covey/v1/configs/declare", leader=declare.configs),
    Route("POST", "/covey/v1/nodes/{id}/declare", leader=declare.nodes),
    Route("POST", "/covey/v1/cluster/lock", leader=locking.declare),
    Route("GET", "/covey/v1/services/{id}/convergence", leader=convergence.services),
)


def find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a call and the values of its places."""
    for route in ROUTES:
        places = route.match(method, path)
        if places is not None:
            return route, places
    return None


def is_ours(method: str, path: str) -> bool:
    """Whether the engine has no say in this call."""
    return path.split("/", 2)[1:2] in [[family] for family in FAMILIES] or find(method, path) is not None
