# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies and errors on port 2377: what goes in comes out, secrets hide, and each error of the tree survives."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from covey.client import sockets, wire
from covey.model import errors
from covey.model.errors import CoveyError, InvalidArgument, NotFound, OutOfSequence, Unavailable
from covey.model.secret import Secret

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, CoveyError)]


def test_a_token_passes_and_hides():
    call = wire.JoinCall(csr="pem", token=Secret(b"SWMTKN-1-a-b"), hostname="h1")
    sent = wire.encode(call)
    plain = {"CSR": "pem", "Token": "SWMTKN-1-a-b", "Hostname": "h1", "Availability": "active"}
    assert msgspec.json.decode(sent) == plain
    assert wire.decode(sent, wire.JoinCall) == call
    assert "SWMTKN" not in repr(call)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"CSR": 1}', b'{"CSR": "", "Token": 7}', b'{"CSR":"","X":1}', b'{"CSR":"\xff"}']
)
def test_a_wrong_body_is_named_and_not_shown(body):
    with pytest.raises(InvalidArgument, match="not what this path takes"):
        wire.decode(body, wire.JoinCall)


@pytest.mark.parametrize("kind", TREE)
def test_each_error_keeps_its_class_and_text(kind):
    error = wire.failure(400, msgspec.json.encode({"message": "what is wrong", "code": kind.__name__}))
    assert type(error) is kind
    assert str(error) == "what is wrong"


def test_facts_that_do_not_travel_are_empty():
    assert wire.from_code("NotFound", "gone").kind == ""  # type: ignore[attr-defined]
    assert isinstance(wire.from_code("NotFound", "gone"), NotFound)
    assert wire.from_code("OutOfSequence", "late").current == 0  # type: ignore[attr-defined]
    assert isinstance(wire.from_code("OutOfSequence", "late"), OutOfSequence)


@pytest.mark.parametrize("code", ["", "Exception", "annotations", "Nonsense"])
def test_an_unknown_code_is_an_error_all_the_same(code):
    assert type(wire.from_code(code, "odd")) is CoveyError


def test_an_answer_that_is_not_ours_is_no_answer():
    assert isinstance(wire.failure(502, b"<html>"), Unavailable)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("192.0.2.1", "192.0.2.1:2377"),
        ("192.0.2.1:7", "192.0.2.1:7"),
        ("host", "host:2377"),
        ("[::1]", "[::1]:2377"),
        ("[::1]:7", "[::1]:7"),
    ],
)
def test_the_port_may_be_left_out(given, full):
    assert sockets.with_port(given) == full
