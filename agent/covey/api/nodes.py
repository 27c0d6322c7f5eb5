# SPDX-License-Identifier: GPL-3.0-or-later
"""``/nodes`` of the peer's API."""

from __future__ import annotations

import msgspec

from covey.api import decode, filters, render, rules
from covey.api.call import ManagerCall, version_of
from covey.api.http import Response
from covey.api.specs import Json
from covey.model.changes import Delete, Update
from covey.model.errors import InvalidArgument
from covey.model.objects import Node
from covey.model.spec import NodeSpec


async def list_(call: ManagerCall) -> Response:
    wanted = filters.parse(call.request.query.get("filters"), filters.NODE_FILTERS)
    return Response.json([_shown(call, node) for node in filters.nodes(call.view, wanted)])


async def inspect(call: ManagerCall) -> Response:
    node = call.view.find("node", call.args["id"])
    return Response.json(_shown(call, node))


def _shown(call: ManagerCall, node: Node) -> Json:
    now = call.store.leadership()
    return render.node(node, now.leader, call.store.reachable() if now.leading else None)


async def update(call: ManagerCall) -> Response:
    version = version_of(call.request, "node")
    spec = _whole_spec(decode.parse(call.request.body, "NodeSpec"))
    node = call.view.find("node", call.args["id"])
    rules.check_node_update(call.view, node, spec, call.store.reachable())
    await call.propose(Update(msgspec.structs.replace(node, version=version, spec=spec)))
    return Response(200)


def _whole_spec(body: object) -> NodeSpec:
    """A node's spec, in which role and availability must stand: a forgotten one would silently change the node."""
    spec = decode.decode(NodeSpec, body)
    sent = {name.lower() for name, value in body.items() if value} if isinstance(body, dict) else set()
    for name, choices in (("Role", "worker or manager"), ("Availability", "active, pause or drain")):
        if name.lower() not in sent:
            raise InvalidArgument(f'invalid {name}: ""; send the whole spec, with {choices}', name)
    return spec


async def delete(call: ManagerCall) -> Response:
    async def once(this: ManagerCall) -> Response:
        if not this.is_done_already:
            node = this.view.find("node", this.args["id"])
            rules.check_node_removal(node, this.request.query.flag("force"))
            await this.propose(Delete("node", node.id, node.version))
        return Response(200)

    return await call.retried(once)
