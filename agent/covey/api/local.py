# SPDX-License-Identifier: GPL-3.0-or-later
"""What every node answers by itself: ``_ping``, ``version``, ``info``, ``distribution``, its own state, its own join.

All of it works while the engine or the managers do not answer.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from covey.api import decode, render, rotate
from covey.api.bodies import CompleteRequest, JoinRequestBody
from covey.api.call import Call
from covey.api.http import JSON_TYPE, Response
from covey.api.lastknown import API_VERSION, MIN_API_VERSION
from covey.api.ports import EngineAnswer, Managing, NodeReport
from covey.api.specs import Json
from covey.control.roster import epoch_of
from covey.model.codec import UNREADABLE
from covey.model.errors import EngineDown, Unsupported
from covey.model.units import rfc3339
from covey.state.view import View

#: Clients wait for this before they create a service, and go on without it.
DISTRIBUTION_TIMEOUT = 2.5
NO_CACHE = "no-cache, no-store, must-revalidate"


async def ping(call: Call) -> Response:
    headers = await call.known.ping()
    swarm = render.swarm_header(call.node.status(), call.node.managing() is not None)
    headers = headers.replaced("Swarm", swarm).replaced("Cache-Control", NO_CACHE)
    return Response(200, headers.replaced("Content-Type", "text/plain; charset=utf-8"), b"OK")


async def version(call: Call) -> Response:
    answer, problem = await call.known.get("/version")
    answer = {"ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION, "Os": "linux", "Arch": "", **answer}
    details = {"Engine": f"does not answer: {problem}"} if problem else {}
    ours = {"Name": "Covey", "Version": call.node.status().version, "Details": details}
    answer["Components"] = [*(answer.get("Components") or ()), ours]
    return Response.json(answer)


async def info(call: Call) -> Response:
    answer, problem = await call.known.get("/info")
    view = _view(call)
    answer["Swarm"] = render.swarm_section(call.node.status(), view)
    warnings = [f"WARNING: {problem}"] if problem else []
    warnings += rotate.warnings(view, call.clock.now()) if view is not None else []
    if warnings:
        answer["Warnings"] = [*(answer.get("Warnings") or ()), *warnings]
    return Response.json(answer)


def _view(call: Call) -> View | None:
    managing = call.node.managing()
    return None if managing is None else managing.store.view()


async def distribution(call: Call) -> Response:
    """What the registry says of an image: asked by the engine, but never waited for longer than clients would."""
    target = call.request.target or quote(call.request.path)
    auth = [(name, value) for name, value in call.request.headers.items() if name.lower() == "x-registry-auth"]
    try:
        answer = await call.engine.fetch("GET", target, auth, timeout=DISTRIBUTION_TIMEOUT)
    except EngineDown as error:
        image = call.args["image"]
        return Response.error(500, f"what {image} stands for could not be learned, it is used as it is: {error}")
    return _passed_on(answer)


async def create_network(call: Call) -> Response:
    """A network of this host is the engine's business; one of the cluster would be ours."""
    try:
        body: Json = msgspec.json.decode(call.request.body, type=dict)
    except UNREADABLE:
        body = {}  # let the engine say what is wrong with it
    if body.get("Driver") == "overlay" or body.get("Scope") == "swarm":
        raise Unsupported("overlay networks are not built yet; publish ports in host mode")
    target = call.request.target or "/networks/create"
    return _passed_on(await call.engine.fetch("POST", target, [("Content-Type", JSON_TYPE)], call.request.body))


def _passed_on(answer: EngineAnswer) -> Response:
    kind = answer.headers.get("Content-Type", JSON_TYPE)
    return Response(answer.status, answer.headers.replaced("Content-Type", kind), answer.body)


# -- /covey/v1


async def status(call: Call) -> Response:
    report, managing = call.node.status(), call.node.managing()
    managers = {each.node_id: each.addr for each in report.managers}
    leader, raft = "", None
    if managing is not None:
        raft = _raft(managing)
        nodes = managing.store.view().nodes.values()
        managers = {each.id: each.manager_address for each in nodes if each.manager_address} or managers
        leader = managing.store.leadership().leader or ""
    return Response.json(
        {
            "Version": report.version,
            "State": report.state,
            "NodeID": report.node_id,
            "ClusterID": report.cluster_id,
            "Role": report.role or "",
            "AdvertiseAddr": report.advertise_addr,
            "Leader": {"NodeID": leader, "Addr": managers.get(leader, "")} if leader else None,
            "Managers": [{"NodeID": node_id, "Addr": address} for node_id, address in sorted(managers.items())],
            "Raft": raft,
            "Certificate": _certificate(report),
            "Error": report.error,
        }
    )


def _raft(managing: Managing) -> Json:
    """How far this manager's log is, for choosing the one to recover from."""
    term, index = managing.store.position()
    return {"Term": term, "Index": index, "Epoch": epoch_of(managing.store.view())}


async def renew(call: Call) -> Response:
    await call.node.renew()
    return Response.json({"Certificate": _certificate(call.node.status())})


def _certificate(report: NodeReport) -> Json | None:
    if report.certificate is None:
        return None
    not_before, not_after = report.certificate
    return {"NotBefore": rfc3339(not_before), "NotAfter": rfc3339(not_after)}


async def request_join(call: Call) -> Response:
    body = decode.decode(JoinRequestBody, decode.parse(call.request.body or b"{}", "JoinRequest"))
    csr = await call.node.request_join(body.advertise_addr)
    return Response.json({"CSR": csr.decode()})


async def complete_join(call: Call) -> Response:
    await call.node.complete_join(decode.body_as(CompleteRequest, call.request.body))
    return Response.json({"NodeID": call.node.status().node_id})
