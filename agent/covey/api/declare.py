# SPDX-License-Identifier: GPL-3.0-or-later
"""``/covey/v1/.../declare``: say what should be, learn what that changes, and unless it is a dry run change it.

A declared service is whole: an omitted field means its default.  The one exception is TaskTemplate.ForceUpdate, which
counts forced updates and says nothing about what should run: omitted, it stays.  The decisions are pure functions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from covey.api import decode, render, rules, specs
from covey.api.bodies import (
    AdmitRequest,
    Declared,
    DeclareDependency,
    DeclareNode,
    DeclareService,
    DependencyBody,
    LabelsState,
    Presence,
)
from covey.api.call import ManagerCall
from covey.api.dependencies import FAMILIES, Family
from covey.api.diff import differences
from covey.api.http import Response
from covey.api.specs import Json
from covey.model.changes import Change, Create, Delete, Update
from covey.model.errors import InvalidArgument, NotFound
from covey.model.objects import Dependency, Node, Object, Service
from covey.model.spec import NodeSpec, ServiceSpec
from covey.plan.dependencies import changes_to, removal, resolved
from covey.plan.rules import check_service
from covey.state.view import View


@dataclass(frozen=True, slots=True)
class Decision:
    """What a declaration comes to.  ``current`` is the object it is about, if there is one already.

    Of the changes, the first that writes an object writes the one it is about.
    """

    action: str
    current: Object | None = None
    changes: tuple[Change, ...] = ()
    before: Json | None = None
    after: Json | None = None


NOTHING_THERE = Decision("none")


async def services(call: ManagerCall) -> Response:
    body = decode.body_as(DeclareService, call.request.body)
    if body.state is Presence.ABSENT:
        name = _name_of(body.spec)
        return await call.retried(lambda this: _carry_out(this, remove_service(this.view, name), body.dry_run))
    spec = decode.service_spec(body.spec)
    new_id = call.clock.new_id()
    return await call.retried(
        lambda this: _carry_out(this, put_service(this.view, spec, body.force_update, new_id), body.dry_run)
    )


async def secrets(call: ManagerCall) -> Response:
    return await _dependencies(call, FAMILIES["secret"])


async def configs(call: ManagerCall) -> Response:
    return await _dependencies(call, FAMILIES["config"])


async def _dependencies(call: ManagerCall, family: Family) -> Response:
    body = decode.body_as(DeclareDependency, call.request.body)
    if body.state is Presence.ABSENT:
        name = _name_of(body.spec)
        return await call.retried(
            lambda this: _carry_out(this, remove_dependency(this.view, family, name), body.dry_run)
        )
    wish, new_id = decode.decode(DependencyBody, body.spec, "Spec"), call.clock.new_id()
    return await call.retried(
        lambda this: _carry_out(this, put_dependency(this.view, family, wish, new_id), body.dry_run)
    )


async def nodes(call: ManagerCall) -> Response:
    body = decode.body_as(DeclareNode, call.request.body)
    reference = call.args["id"]

    def decide(this: ManagerCall) -> Decision:
        if body.state is Presence.ABSENT:
            return remove_node(this.view, reference, body)
        return put_node(this.view, reference, body, this.store.reachable())

    return await call.retried(lambda this: _carry_out(this, decide(this), body.dry_run))


async def admit(call: ManagerCall) -> Response:
    """``/covey/v1/join/admit``."""
    admission = await call.managing.admit(decode.body_as(AdmitRequest, call.request.body))
    return Response.json(admission)


async def _carry_out(call: ManagerCall, decision: Decision, dry_run: bool) -> Response:
    current = decision.current
    id_, version = (current.id, current.version) if current else ("", 0)
    if decision.changes and not dry_run:
        index = await call.propose(*decision.changes)
        written = next((change.object for change in decision.changes if isinstance(change, (Create, Update))), None)
        if written is not None:
            id_, version = written.id, index
    return Response.json(
        Declared(
            changed=bool(decision.changes),
            action=decision.action,
            id=id_,
            version=version,
            before=decision.before,
            after=decision.after,
            diff=tuple(differences(decision.before or {}, decision.after or {})),
        )
    )


# -- services


def put_service(view: View, spec: ServiceSpec, force: bool, new_id: str) -> Decision:
    """A service of that name that runs by ``spec``, and nothing but that."""
    current = view.service_named(spec.name)
    spec = resolved(view, spec, current)
    check_service(spec, current)
    if current is None:
        after = specs.comparable(spec)
        return Decision("create", None, (Create(Service(id=new_id, spec=spec)),), None, after)
    spec = _with_count(spec, current, force)
    before, after = specs.comparable(current.spec), specs.comparable(spec)
    if before == after:
        return Decision("none", current, (), before, after)
    changed = msgspec.structs.replace(current, spec=spec, previous_spec=current.spec)
    return Decision("update", current, (Update(changed),), before, after)


def _with_count(spec: ServiceSpec, current: Service, force: bool) -> ServiceSpec:
    """``spec`` with the counter of forced updates: as declared, else as it stands, one more if forced."""
    declared, stands = spec.task_template.force_update, current.spec.task_template.force_update
    count = stands if declared is None else declared
    if force:
        count = max(count or 0, stands or 0) + 1
    return msgspec.structs.replace(spec, task_template=msgspec.structs.replace(spec.task_template, force_update=count))


def remove_service(view: View, name: str) -> Decision:
    """No service of that name."""
    current = view.service_named(name)
    if current is None:
        return NOTHING_THERE
    change = Delete("service", current.id, current.version)
    return Decision("remove", current, (change,), specs.comparable(current.spec), None)


def _name_of(spec: Json) -> str:
    """The name alone: to remove a service, nothing else of it need be known or right."""
    name = next((value for key, value in spec.items() if key.lower() == "name"), None)
    if not isinstance(name, str) or not name:
        raise InvalidArgument("the name of the service to remove must be given", "Spec.Name")
    return name


# -- secrets and configs


def put_dependency(view: View, family: Family, wish: DependencyBody, new_id: str) -> Decision:
    """A secret or config of that name with that value, whose users follow."""
    current = view.dependency_named(family.kind, wish.name)
    if current is None:
        new = family.new(wish, new_id)
        return Decision("create", None, (Create(new),), None, _shown_dependency(new))
    wanted = family.changed(current, wish, new_id)
    changes = changes_to(view, current, wanted)
    number = current.number + (wanted.id != current.id)
    after = _shown_dependency(msgspec.structs.replace(wanted, number=number))
    return Decision("update" if changes else "none", current, changes, _shown_dependency(current), after)


def remove_dependency(view: View, family: Family, name: str) -> Decision:
    """No secret or config of that name, nor any value of it."""
    current = view.dependency_named(family.kind, name)
    if current is None:
        return NOTHING_THERE
    return Decision("remove", current, removal(view, current), _shown_dependency(current), None)


def _shown_dependency(thing: Dependency) -> Json:
    """For a diff: of a secret's value its number alone; of a config's the text as well, which anyone may see."""
    spec = render.dependency(thing)["Spec"]
    if "Data" in spec:
        spec["Data"] = thing.data.reveal().decode("utf-8", "replace")
    return {**spec, "Value": thing.number}


# -- nodes


def put_node(view: View, reference: str, wish: DeclareNode, reachable: Collection[str]) -> Decision:
    """That node with what is declared of it; the rest as it is.  ``reachable``: the managers that answer."""
    node: Node = view.find("node", reference)
    spec = NodeSpec(
        name=node.spec.name,
        labels=_labels(node.spec.labels or {}, wish),
        role=wish.role or node.spec.role,
        availability=wish.availability or node.spec.availability,
    )
    before, after = _shown(node.spec), _shown(spec)
    if before == after:
        return Decision("none", node, (), before, after)
    rules.check_node_update(view, node, spec, reachable)
    return Decision("update", node, (Update(msgspec.structs.replace(node, spec=spec)),), before, after)


def _labels(current: dict[str, str], wish: DeclareNode) -> dict[str, str]:
    doubtful = sorted(set(wish.labels or ()) & set(wish.labels_to_remove or ()))
    if doubtful:
        raise InvalidArgument(f"{', '.join(doubtful)} cannot be both set and removed", "LabelsToRemove")
    kept = {} if wish.labels is not None and wish.labels_state is LabelsState.REPLACE else current
    merged = {**kept, **(wish.labels or {})}
    return {name: value for name, value in merged.items() if name not in (wish.labels_to_remove or ())}


def _shown(spec: NodeSpec) -> Json:
    role = {"Role": str(spec.role), "Availability": str(spec.availability)}
    return {"Labels": spec.labels or {}, **role, **render.given(Name=spec.name)}


def remove_node(view: View, reference: str, wish: DeclareNode) -> Decision:
    """That node no longer in the cluster."""
    try:
        node: Node = view.find("node", reference)
    except NotFound:
        return NOTHING_THERE
    rules.check_node_removal(node, wish.force)
    return Decision("remove", node, (Delete("node", node.id, node.version),), _shown(node.spec), None)
