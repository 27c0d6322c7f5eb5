# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches and views as bytes, each with a version in front.

A batch or snapshot of a newer release is refused with BadState before anything of it takes effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from covey.model import codec
from covey.model.changes import (
    BATCH_VERSION,
    Batch,
    Create,
    Delete,
    ObserveNode,
    ObserveTask,
    Retire,
    SetUpdateStatus,
    Update,
)
from covey.model.errors import BadState
from covey.model.objects import KINDS, Object, kind_of
from covey.state.apply import Draft
from covey.state.view import View

SNAPSHOT_VERSION = 1

_OBJECT_CHANGES: dict[str, Any] = {"create": Create, "update": Update}
_PLAIN_CHANGES: dict[str, Any] = {
    "delete": Delete,
    "retire": Retire,
    "observe_task": ObserveTask,
    "observe_node": ObserveNode,
    "update_status": SetUpdateStatus,
}
_NAMES = {kind: name for name, kind in {**_OBJECT_CHANGES, **_PLAIN_CHANGES}.items()}


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    version: int
    request_id: str
    fence: int
    at: float
    changes: tuple[tuple[str, str, msgspec.Raw], ...]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    index: int
    fence: int
    requests: dict[str, tuple[int, str]]


codec.learn(_Wire, _Head, *KINDS.values(), *_PLAIN_CHANGES.values())


def encode_batch(batch: Batch) -> bytes:
    """One command of the log."""
    changes = tuple(_encode_change(change) for change in batch.changes)
    return codec.encode(_Wire(BATCH_VERSION, batch.request_id, batch.fence, batch.at, changes))


def decode_batch(data: bytes) -> Batch:
    """The batch of ``data``; BadState if it is damaged or of a newer release."""
    try:
        wire = codec.decode(data, _Wire)
        _check_version("log entry", wire.version, BATCH_VERSION)
        changes = tuple(_decode_change(*change) for change in wire.changes)
    except msgspec.MsgspecError as error:
        raise BadState(f"a log entry cannot be read: {error}") from error
    return Batch(request_id=wire.request_id, at=wire.at, changes=changes, fence=wire.fence)


def _encode_change(change: Any) -> tuple[str, str, msgspec.Raw]:
    name = _NAMES[type(change)]
    if name in _OBJECT_CHANGES:
        return name, kind_of(change.object), msgspec.Raw(codec.encode(change.object))
    return name, "", msgspec.Raw(codec.encode(change))


def _decode_change(name: str, kind: str, body: msgspec.Raw) -> Any:
    if name in _OBJECT_CHANGES and kind in KINDS:
        return _OBJECT_CHANGES[name](codec.decode(bytes(body), KINDS[kind]))
    if name in _PLAIN_CHANGES:
        return codec.decode(bytes(body), _PLAIN_CHANGES[name])
    raise BadState(f"a log entry holds a change of a newer release ({name} {kind}); upgrade this manager")


def encode_view(view: View) -> Iterator[bytes]:
    """A snapshot: a head, then one chunk an object, in a fixed order."""
    yield codec.encode(_Head(SNAPSHOT_VERSION, view.index, view.fence, dict(view.requests)))
    for kind in KINDS:
        for thing in view.table(kind).values():
            yield codec.encode((kind, thing))


def decode_view(chunks: Iterable[bytes]) -> View:
    """The view of such a snapshot; BadState if it is damaged or of a newer release."""
    source = iter(chunks)
    try:
        head = codec.decode(next(source, b""), _Head)
        _check_version("snapshot", head.version, SNAPSHOT_VERSION)
        things = [_decode_object(chunk) for chunk in source]
    except msgspec.MsgspecError as error:
        raise BadState(f"the snapshot cannot be read: {error}") from error
    return restore(head.index, head.fence, head.requests, things)


def restore(index: int, fence: int, requests: dict[str, tuple[int, str]], things: Iterable[Object]) -> View:
    """A view that holds ``things`` with their versions as they are."""
    draft = Draft(View(), index, 0.0)
    for thing in things:
        draft.put(thing)
    return replace(draft.view(), fence=fence, requests=requests)


def _decode_object(chunk: bytes) -> Object:
    kind, body = codec.decode(chunk, tuple[str, msgspec.Raw])
    if kind not in KINDS:
        raise BadState(f"the snapshot holds a {kind}, which a newer release wrote; upgrade this manager")
    thing: Object = codec.decode(bytes(body), KINDS[kind])
    return thing


def _check_version(what: str, found: int, known: int) -> None:
    if found > known:
        raise BadState(
            f"a {what} of format {found} was written by a newer release (this one knows {known}); upgrade this manager"
        )
