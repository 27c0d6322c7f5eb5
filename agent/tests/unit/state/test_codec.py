# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches and snapshots as bytes: what cannot be read is refused whole, with what to do."""

from __future__ import annotations

import msgspec
import pytest

from covey.model import codec
from covey.model.changes import FORMAT, Batch, Create, ObserveTask
from covey.model.errors import BadState
from covey.model.objects import Node, TaskStatus
from covey.state.codec import decode_batch, decode_view, encode_batch, encode_view
from covey.state.view import View


def wire(*, version=FORMAT, changes=()):
    return codec.encode((version, "r", 0, 0.0, list(changes)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"not msgpack at all", wire()[:-1], wire(changes=[("create",)])])
def test_a_damaged_entry_is_refused(data):
    with pytest.raises(BadState, match="a log entry cannot be read"):
        decode_batch(data)


def test_an_entry_of_a_newer_release_is_refused():
    with pytest.raises(BadState, match=r"newer release .* upgrade this manager"):
        decode_batch(wire(version=FORMAT + 1))
    for name, kind in (("levitate", ""), ("create", "moon")):
        with pytest.raises(BadState, match=f"a change of a newer release .{name} {kind}"):
            decode_batch(wire(changes=[(name, kind, {})]))


def test_fields_of_a_newer_release_are_ignored():
    sent = encode_batch(Batch("r", 1.0, (Create(Node(id="n1")),)))
    body = msgspec.msgpack.decode(sent)
    body[4][0][2]["moon"] = "full"
    assert decode_batch(codec.encode(body)) == decode_batch(sent)


def test_a_field_of_a_wrong_type_is_damage():
    with pytest.raises(BadState, match="a log entry cannot be read"):
        decode_batch(wire(changes=[("create", "node", {"id": 5})]))
    assert decode_batch(encode_batch(Batch("r", 1.0, (ObserveTask("t", TaskStatus()),)))).changes


def test_a_snapshot_of_nothing():
    assert decode_view(encode_view(View(index=3))) == View(index=3)


def test_a_damaged_snapshot_is_refused():
    with pytest.raises(BadState, match="the snapshot cannot be read"):
        decode_view([])
    head = next(iter(encode_view(View())))
    with pytest.raises(BadState, match="the snapshot cannot be read"):
        decode_view([head, b"\xff"])


def test_a_snapshot_of_a_newer_release_is_refused():
    with pytest.raises(BadState, match="a snapshot of format"):
        decode_view([codec.encode((FORMAT + 1, 1, 0, {}))])
    head = next(iter(encode_view(View())))
    with pytest.raises(BadState, match="holds a moon, which a newer release wrote"):
        decode_view([head, codec.encode(("moon", {}))])
