# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches and views as bytes, each with a version in front.

A batch or snapshot of a newer release is refused with BadState before anything of it takes effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from covey.model import codec
from covey.model.changes import (
    FORMAT,
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

_OBJECT_CHANGES: dict[str, Any] = {"create": Create, "update": Update}
_PLAIN_CHANGES: dict[str, Any] = {
    "delete": Delete,
    "retire": Retire,
    "observe_task": ObserveTask,
    "observe_node": ObserveNode,
    "update_status": SetUpdateStatus,
}
#: Since which format there are changes, and kinds of object, that the first one does not have.
_SINCE: dict[str, int] = {}


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


class Codec:
    """Batches and views as bytes, as one release reads and writes them: ``newest`` is the newest format that it reads.

    What is written bears the oldest format that has all of it, so that older releases read it if they can.
    """

    def __init__(self, newest: int, plain: Mapping[str, Any], since: Mapping[str, int]) -> None:
        self.newest = newest
        self._plain, self._since = plain, since
        self._names = {kind: name for name, kind in {**_OBJECT_CHANGES, **plain}.items()}

    def format_of(self, batch: Batch) -> int:
        """The oldest format that has all of its changes."""
        encoded = (self._name(change) for change in batch.changes)
        return max((self._since.get(word, 1) for words in encoded for word in words), default=1)

    def encode_batch(self, batch: Batch) -> bytes:
        """One command of the log."""
        changes = tuple(self._encode_change(change) for change in batch.changes)
        return codec.encode(_Wire(self.format_of(batch), batch.request_id, batch.fence, batch.at, changes))

    def decode_batch(self, data: bytes) -> Batch:
        """The batch of ``data``; BadState if it is damaged or of a newer release."""
        try:
            wire = codec.decode(data, _Wire)
            self._check_format("log entry", wire.version)
            changes = tuple(self._decode_change(*change) for change in wire.changes)
        except msgspec.MsgspecError as error:
            raise BadState(f"a log entry cannot be read: {error}") from error
        return Batch(wire.request_id, wire.at, changes, wire.fence, wire.version)

    def _name(self, change: Any) -> tuple[str, str]:
        """The change's name, and the kind of the object in it."""
        name = self._names[type(change)]
        return name, kind_of(change.object) if name in _OBJECT_CHANGES else ""

    def _encode_change(self, change: Any) -> tuple[str, str, msgspec.Raw]:
        name, kind = self._name(change)
        return name, kind, msgspec.Raw(codec.encode(change.object if kind else change))

    def _decode_change(self, name: str, kind: str, body: msgspec.Raw) -> Any:
        if name in _OBJECT_CHANGES and kind in KINDS:
            return _OBJECT_CHANGES[name](codec.decode(bytes(body), KINDS[kind]))
        if name in self._plain:
            return codec.decode(bytes(body), self._plain[name])
        raise BadState(f"a log entry holds a change of a newer release ({name} {kind}); upgrade this manager")

    def encode_view(self, view: View) -> Iterator[bytes]:
        """A snapshot: a head, then one chunk an object, in a fixed order."""
        yield codec.encode(_Head(view.format, view.index, view.fence, dict(view.requests)))
        for kind in KINDS:
            for thing in view.table(kind).values():
                yield codec.encode((kind, thing))

    def decode_view(self, chunks: Iterable[bytes]) -> View:
        """The view of such a snapshot; BadState if it is damaged or of a newer release."""
        source = iter(chunks)
        try:
            head = codec.decode(next(source, b""), _Head)
            self._check_format("snapshot", head.version)
            things = [_decode_object(chunk) for chunk in source]
        except msgspec.MsgspecError as error:
            raise BadState(f"the snapshot cannot be read: {error}") from error
        return replace(restore(head.index, head.fence, head.requests, things), format=head.version)

    def _check_format(self, what: str, found: int) -> None:
        if found > self.newest:
            raise BadState(
                f"a {what} of format {found} was written by a newer release (this one knows {self.newest}); "
                "upgrade this manager"
            )


#: Of this release.
CODEC = Codec(FORMAT, _PLAIN_CHANGES, _SINCE)
encode_batch, decode_batch = CODEC.encode_batch, CODEC.decode_batch
encode_view, decode_view = CODEC.encode_view, CODEC.decode_view


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
