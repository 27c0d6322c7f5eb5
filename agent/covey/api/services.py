# SPDX-License-Identifier: GPL-3.0-or-later
"""``/services`` and ``/tasks`` of the peer's API."""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from covey.api import decode, filters, render
from covey.api.call import REQUEST_ID, ManagerCall, version_of
from covey.api.http import Request, Response
from covey.model.changes import Create, Delete, Update
from covey.model.errors import FailedPrecondition, InvalidArgument
from covey.model.ids import base36
from covey.model.objects import Service
from covey.model.spec import ServiceSpec
from covey.plan.dependencies import resolved
from covey.plan.rules import check_service

REGISTRY_AUTH = "X-Registry-Auth"


async def create(call: ManagerCall) -> Response:
    new_id = call.clock.new_id()
    spec = _named(decode.service_spec(decode.parse(call.request.body, "ServiceSpec")), call.request)
    spec = resolved(call.view, spec, None)
    check_service(spec)
    service = Service(id=new_id, spec=spec)
    await call.propose(Create(service))
    created = call.store.view().service_named(spec.name) or service  # of a repeat, the one made the first time
    return Response.json({"ID": created.id, **render.given(Warnings=warnings(call.request))}, 201)


def _named(spec: ServiceSpec, request: Request) -> ServiceSpec:
    """The spec with a name made up where there is none, as the peer does; the same again for a repeated request."""
    if spec.name:
        return spec
    digest = hashlib.sha256(request.headers.get(REQUEST_ID).encode()).digest()
    return msgspec.structs.replace(spec, name=f"service-{base36(int.from_bytes(digest[:8]), 13)}")


async def list_(call: ManagerCall) -> Response:
    query = call.request.query
    found = filters.services(call.view, filters.parse(query.get("filters"), filters.SERVICE_FILTERS))
    shown = [render.service(service, query.flag("insertDefaults")) for service in found]
    if query.flag("status"):
        for service, json in zip(found, shown, strict=True):
            json["ServiceStatus"] = render.service_status(service, call.view)
    return Response.json(shown)


async def inspect(call: ManagerCall) -> Response:
    service = call.view.find("service", call.args["id"])
    return Response.json(render.service(service, call.request.query.flag("insertDefaults")))


async def update(call: ManagerCall) -> Response:
    version = version_of(call.request, "service")
    service: Service = call.view.find("service", call.args["id"])
    if rolls_back(call.request):
        spec = service.previous_spec
        if spec is None:
            raise FailedPrecondition(f"service {service.spec.name} does not have a previous spec to roll back to")
    else:
        spec = resolved(call.view, decode.service_spec(decode.parse(call.request.body, "ServiceSpec")), service)
    check_service(spec, service)
    written = msgspec.structs.replace(service, version=version, spec=spec, previous_spec=service.spec)
    await call.propose(Update(written))
    return Response.json({"Warnings": warnings(call.request) or None})


def rolls_back(request: Request) -> bool:
    """The client asks for the spec before this one."""
    asked = request.query.get("rollback")
    if asked not in ("", "previous"):
        raise InvalidArgument(f"unrecognized rollback option {asked}; it is previous")
    return asked == "previous"


async def delete(call: ManagerCall) -> Response:
    async def once(this: ManagerCall) -> Response:
        if not this.is_done_already:
            service = this.view.find("service", this.args["id"])
            await this.propose(Delete("service", service.id, service.version))
        return Response(200)

    return await call.retried(once)


async def list_tasks(call: ManagerCall) -> Response:
    wanted = filters.parse(call.request.query.get("filters"), filters.TASK_FILTERS)
    return Response.json(render.tasks(filters.tasks(call.view, wanted)))


async def inspect_task(call: ManagerCall) -> Response:
    return Response.json(render.task(call.view.find("task", call.args["id"])))


def warnings(request: Request) -> list[str]:
    """What the caller should know although the call holds."""
    if not _has_credentials(request.headers.get(REGISTRY_AUTH)):
        return []
    return ["the registry credentials that came with this call are not passed on to the nodes by this release"]


def _has_credentials(header: str) -> bool:
    try:
        content = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)) or b"{}")
    except (binascii.Error, ValueError, RecursionError):  # msgspec's and unicode's errors are ValueErrors
        return bool(header)
    return isinstance(content, dict) and any(content.values())
