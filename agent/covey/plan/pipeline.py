# SPDX-License-Identifier: GPL-3.0-or-later
"""All planners in their order, and how they are run until none wants a change.

Each acts on the state alone, and they run again until all are content, so any order ends well.  This one is quick, and
lets ``rolling`` count what still runs after everybody else's losses.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import msgspec

from covey.model import codec
from covey.model.changes import (
    Batch,
    Change,
    Create,
    Delete,
    ObserveNode,
    ObserveTask,
    SetUpdateStatus,
    Update,
)
from covey.model.objects import Node, Object, Service, Task, kind_of
from covey.plan.base import NewId, Plan, Planner, earliest
from covey.plan.enforce import enforce
from covey.plan.globals import globals_
from covey.plan.orphans import orphans
from covey.plan.placement.schedule import schedule
from covey.plan.reap import reap
from covey.plan.replicated import replicated
from covey.plan.restart import restart
from covey.plan.rolling import rolling
from covey.plan.rotation import rotation
from covey.plan.slots import SlotKey, slot_key
from covey.plan.start import start
from covey.state.apply import apply
from covey.state.view import View

PLANNERS: tuple[Planner, ...] = (
    orphans,
    replicated,
    globals_,
    enforce,
    restart,
    rolling,
    start,
    schedule,
    reap,
    rotation,
)

#: Planners are no longer asked once they wanted this many changes; the next plan is due at once.
LIMIT = 5000
#: A transaction holds no more bytes of changes than this, half of what the store takes in one.
SIZE = 1 << 20


def settle(view: View, now: float, new_id: NewId, limit: int = LIMIT) -> Plan:
    """Everything the planners want, as one transaction on ``view``; empty once nothing is to be done.

    The rounds run on a scratch view, and what is returned is how it differs from ``view`` in the end: a task that was
    created, placed and told to run is one Create.
    """
    scratch = view
    touched: dict[tuple[str, str], None] = {}
    wake_at: float | None = None
    content = wanted = 0
    planners = cycle(PLANNERS)
    while content < len(PLANNERS) and wanted < limit:
        plan = next(planners)(scratch, now, new_id)
        if not plan.changes:
            content, wake_at = content + 1, earliest(wake_at, plan.wake_at)
            continue
        content, wake_at, wanted = 0, None, wanted + len(plan.changes)
        scratch = _after(scratch, plan, now)
        touched.update((_touches(change), None) for change in plan.changes)
    groups = difference(view, scratch, touched)
    changes = _cut(groups, limit)
    whole = content == len(PLANNERS) and len(changes) == sum(map(len, groups))
    return Plan(tuple(changes), wake_at if whole else now)


def _after(view: View, plan: Plan, now: float) -> View:
    after, outcome = apply(view, Batch(request_id="", at=now, changes=plan.changes), view.index + 1)
    if outcome.error is not None:
        raise outcome.error
    return after


def _touches(change: Change) -> tuple[str, str]:
    if isinstance(change, (Create, Update)):
        return kind_of(change.object), change.object.id
    if isinstance(change, Delete):
        return change.kind, change.id
    if isinstance(change, SetUpdateStatus):
        return "service", change.service_id
    return "task" if isinstance(change, ObserveTask) else "node", change.id


def difference(view: View, scratch: View, touched: Iterable[tuple[str, str]]) -> list[list[Change]]:
    """How ``scratch`` differs from ``view`` in what was touched; what must stay together is one list.

    The tasks of a slot do.  Services and nodes come first, so that no task is seen before the update it belongs to.
    """
    others: list[list[Change]] = []
    slots: dict[tuple[str, SlotKey], list[Change]] = {}
    for kind, id_ in touched:
        before, after = view.table(kind).get(id_), scratch.table(kind).get(id_)
        change = _change(kind, before, after)
        thing = after or before
        if change is not None and isinstance(thing, Task):
            slots.setdefault((thing.service_id, slot_key(thing)), []).append(change)
        elif change is not None:
            others.append([change])
    return [*others, *slots.values()]


def _cut(groups: Iterable[list[Change]], limit: int) -> list[Change]:
    """As many whole groups as one transaction should hold; of the first, if that alone is too large, what fits.

    A slot whose old task ends in one transaction and whose next one begins in another is without a task in between, and
    the planners give it one: late, but never stuck.
    """
    changes: list[Change] = []
    size = 0
    for group in groups:
        sizes = [len(codec.encode(each)) for each in group]
        if changes and (len(changes) >= limit or size + sum(sizes) > SIZE):
            break
        for change, own in zip(group, sizes, strict=True):
            if changes and size + own > SIZE:
                return changes
            changes.append(change)
            size += own
    return changes


def _change(kind: str, before: Object | None, after: Object | None) -> Change | None:
    """The one change that makes ``after`` of ``before``."""
    if before is None:
        return None if after is None else Create(after)
    if after is None:
        return Delete(kind, before.id, before.version)
    if after.version != before.version:
        return Update(msgspec.structs.replace(after, version=before.version))
    if isinstance(after, Task):
        return ObserveTask(after.id, after.status)
    if isinstance(after, Service):
        return SetUpdateStatus(after.id, after.version, after.update_status)
    if isinstance(after, Node):
        return ObserveNode(after.id, after.status, after.description)
    return None
