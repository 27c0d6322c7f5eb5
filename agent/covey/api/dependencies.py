# SPDX-License-Identifier: GPL-3.0-or-later
"""``/secrets`` and ``/configs`` of the peer's API, new values, and what is ours about them.

No call shows the data of a secret.  Decisions are pure functions of ``plan.dependencies`` and of this file.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from covey.api import decode, filters, render
from covey.api.bodies import DependencyBody
from covey.api.call import ManagerCall, version_of
from covey.api.http import Response
from covey.model import templates
from covey.model.changes import Create
from covey.model.errors import FailedPrecondition, InvalidArgument, OutOfSequence
from covey.model.objects import Dependency, StoredConfig, StoredSecret
from covey.model.secret import Secret
from covey.model.spec import DependencySpec
from covey.plan.dependencies import changes_to, is_same_value, removal, unused, values_of

replace = msgspec.structs.replace

KB = 1024
#: Bytes; the data must be smaller than this, as with the peer.
LIMITS = {"secret": 500 * KB, "config": 1000 * KB}
TEMPLATE_DRIVERS = ("golang",)
_NAME = re.compile(r"[a-zA-Z0-9](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?", re.ASCII)
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Family:
    """The handlers of one kind: ``secret`` or ``config``."""

    kind: str
    make: Callable[..., Dependency]

    async def create(self, call: ManagerCall) -> Response:
        body = decode.body_as(DependencyBody, call.request.body)
        thing = self.new(body, call.clock.new_id())
        await call.propose(Create(thing))
        made = call.store.view().dependency_named(self.kind, thing.spec.name) or thing  # of a repeat, the first one
        return Response.json({"ID": made.id}, 201)

    async def list_(self, call: ManagerCall) -> Response:
        wanted = filters.parse(call.request.query.get("filters"), filters.DEPENDENCY_FILTERS)
        return Response.json([render.dependency(one) for one in filters.dependencies(call.view, self.kind, wanted)])

    async def inspect(self, call: ManagerCall) -> Response:
        return Response.json(render.dependency(call.view.find(self.kind, call.args["id"])))

    async def update(self, call: ManagerCall) -> Response:
        """Other labels, as with the peer, or another value: then the answer names the new object."""
        version = version_of(call.request, self.kind)
        body = decode.body_as(DependencyBody, call.request.body)
        new_id = call.clock.new_id()

        async def once(this: ManagerCall) -> Response:
            thing = self._subject(this)
            if not this.is_done_already:
                if thing.version != version:
                    raise OutOfSequence(self.kind, thing.spec.name, version, thing.version)
                await this.propose(*changes_to(this.view, thing, self.changed(thing, body, new_id)))
            named = this.store.view().dependency_named(self.kind, thing.spec.name)
            return Response.json({"ID": (named or thing).id})

        return await call.retried(once)

    async def delete(self, call: ManagerCall) -> Response:
        async def once(this: ManagerCall) -> Response:
            if not this.is_done_already:
                await this.propose(*removal(this.view, this.view.find(self.kind, this.args["id"])))
            return Response(204)

        return await call.retried(once)

    async def values(self, call: ManagerCall) -> Response:
        """The values kept of a name, newest first, without their data."""
        thing = call.view.find(self.kind, call.args["id"])
        return Response.json([render.dependency_value(one) for one in values_of(call.view, self.kind, thing.spec.name)])

    async def rollback(self, call: ManagerCall) -> Response:
        """The value before, or the one of ``number``, once more as a new one."""
        new_id, number = call.clock.new_id(), call.request.query.get("number")

        async def once(this: ManagerCall) -> Response:
            thing = self._subject(this)
            if not this.is_done_already:
                old = earlier(values_of(this.view, self.kind, thing.spec.name), number)
                again = replace(
                    thing, id=new_id, data=old.data, spec=replace(thing.spec, templating=old.spec.templating)
                )
                await this.propose(*changes_to(this.view, thing, again))
            named = this.store.view().dependency_named(self.kind, thing.spec.name)
            return Response.json({"ID": (named or thing).id})

        return await call.retried(once)

    async def prune(self, call: ManagerCall) -> Response:
        """Remove what no service refers to, not even for a rollback; the filters are those of the list."""
        wanted = filters.parse(call.request.query.get("filters"), filters.DEPENDENCY_FILTERS)

        async def once(this: ManagerCall) -> Response:
            gone = unused(this.view, self.kind, filters.dependencies(this.view, self.kind, wanted))
            names = sorted({thing.spec.name for thing in gone})
            dry = this.request.query.flag("dry-run")
            if gone and not dry and not this.is_done_already:
                await this.propose(
                    *(change for thing in gone if not thing.retired for change in removal(this.view, thing))
                )
            return Response.json({"Removed": names})

        return await call.retried(once)

    def _subject(self, call: ManagerCall) -> Dependency:
        """The object that the call is about; of one that took effect already, it may have been retired by that."""
        reference = call.args["id"]
        known = call.view.dependencies(self.kind).get(reference) if call.is_done_already else None
        found: Dependency = known or call.view.find(self.kind, reference)
        return found

    # -- values

    def new(self, body: DependencyBody, new_id: str) -> Dependency:
        """What ``body`` declares, with its data; InvalidArgument if it cannot be."""
        made = self.make(id=new_id, spec=checked(body), data=self.data_of(body) or self.checked_data(b""))
        return with_good_template(made)

    def changed(self, current: Dependency, body: DependencyBody, new_id: str) -> Dependency:
        """``current`` as ``body`` has it: under ``new_id`` if its value is another; no data means the same data."""
        spec = checked(body)
        if spec.name != current.spec.name:
            raise InvalidArgument(f"the name of a {self.kind} cannot be changed ({current.spec.name})", "Name")
        given = self.data_of(body)
        wanted = replace(current, spec=spec, data=current.data if given is None else given)
        return wanted if is_same_value(wanted, current) else with_good_template(replace(wanted, id=new_id))

    def data_of(self, body: DependencyBody) -> Secret | None:
        """The data that was sent; None if none was."""
        return None if body.data is None else self.checked_data(_bytes_of(body.data.reveal()))

    def checked_data(self, data: bytes) -> Secret:
        limit = LIMITS[self.kind]
        if not 0 < len(data) < limit:
            raise InvalidArgument(
                f"{self.kind} data must be larger than 0 and less than {limit} bytes; this is {len(data)}", "Data"
            )
        return Secret(data)


def checked(body: DependencyBody) -> DependencySpec:
    """The spec in the body; InvalidArgument if it cannot be."""
    if not _NAME.fullmatch(body.name) or len(body.name) > _LONGEST_NAME:
        raise InvalidArgument(
            f"invalid name, only {_LONGEST_NAME} [a-zA-Z0-9-_.] characters allowed, and the start and end character "
            f"must be [a-zA-Z0-9], not {body.name!r}",
            "Name",
        )
    driver = body.templating
    if driver is not None and (driver.options or driver.name not in (None, "", *TEMPLATE_DRIVERS)):
        raise InvalidArgument(f"the one template driver is {TEMPLATE_DRIVERS[0]}, without options", "Templating")
    templating = driver if driver is not None and driver.name else None
    return DependencySpec(name=body.name, labels=body.labels, templating=templating)


def with_good_template(thing: Dependency) -> Dependency:
    """``thing``, unless it is a template that no node could fill in."""
    problem = templates.problem(thing.data.reveal()) if thing.spec.templating else ""
    if problem:
        raise InvalidArgument(problem, "Data")
    return thing


def _bytes_of(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        legal = re.match(rb"[A-Za-z0-9+/]*={0,2}", text)
        place = min(legal.end() if legal else 0, max(0, len(text) - 1))
    raise InvalidArgument(f"illegal base64 data at input byte {place}", "Data")  # outside, so that no cause holds it


def earlier(values: list[Dependency], number: str) -> Dependency:
    """Of a name's values, newest first, the one of that number, or the one before the newest."""
    found = next((one for one in values[1:] if number in ("", str(one.number))), None)
    if found is None:
        kept = ", ".join(str(one.number) for one in values[1:]) or "none"
        raise FailedPrecondition(f"{values[0].spec.name} has no value {number or 'before this one'}; kept are: {kept}")
    return found


secrets = Family("secret", StoredSecret)
configs = Family("config", StoredConfig)
FAMILIES = {"secret": secrets, "config": configs}
