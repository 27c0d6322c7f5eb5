# SPDX-License-Identifier: GPL-3.0-or-later
"""Constraints: what parses, what is said of what does not, and which nodes they admit."""

from __future__ import annotations

import pytest
from builders import node

from covey.model.errors import InvalidArgument
from covey.model.spec import Placement, Platform
from covey.plan.placement.constraint import broken, parse, runs_on

HOST = node(
    "n1", hostname="Alpha", labels={"zone": "East", "Disk": "ssd"}, engine_labels={"gpu": "yes"}, address="10.0.3.7",
    role="manager", architecture="x86_64",
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "node.id==n1", "node.hostname == alpha", "node.role==Manager", "node.role != worker", "NODE.ROLE==manager",
        "node.ip==10.0.3.7", "node.ip==10.0.0.0/16", "node.ip!=10.1.0.0/16", "node.platform.os==linux",
        "node.platform.arch==amd64", "node.platform.arch==x86_64", "node.platform.arch!=arm64",
        "node.labels.zone==east", "node.labels.Disk==SSD", "node.labels.disk!=ssd", "node.labels.rack!=7",
        "engine.labels.gpu==yes", "engine.labels.gpu!=no", "node.ip!=nonsense",
    ],
)  # fmt: skip
def test_holds(text):
    assert broken(Placement(constraints=[text]), HOST) == ""


@pytest.mark.parametrize(
    "text",
    ["node.id==n2", "node.hostname==alph", "node.role==worker", "node.ip==10.1.0.0/16", "node.ip==nonsense",
     "node.labels.zone!=EAST", "node.labels.rack==7", "node.platform.arch==aarch64"],
)  # fmt: skip
def test_is_broken(text):
    assert broken(Placement(constraints=["node.id==n1", text]), HOST) == text


def test_what_another_release_wrote_is_met_by_no_node():
    assert broken(Placement(constraints=["node.moon=full"]), HOST) == "node.moon=full"


@pytest.mark.parametrize(
    ("text", "expected", "position"),
    [
        ("node=x", "one operator from ==, !=", 4),
        ("  node.role", "one operator from ==, !=", 11),
        ("", "one operator from ==, !=", 0),
        ("==x", "a key", 0),
        ("nöde.role==x", "a key", 0),
        ("node role==x", "a key", 4),
        ("node.role==", "a value", 11),
        ("node.role== ", "a value", 12),
        ("node.labels.a==x,y", "a value", 16),
        ("node.labels.a==,", "a value", 15),
        ("node.labels.a==b==c", "a value", 16),
        ("node.label.zone==a", "one of the keys node.id, node.hostname", 0),
        ("node.labels.==a", "one of the keys", 0),
    ],
)
def test_errors_say_what_was_expected_where(text, expected, position):
    with pytest.raises(InvalidArgument) as caught:
        parse(text, "TaskTemplate.Placement.Constraints[2]")
    message = str(caught.value)
    assert message.startswith("TaskTemplate.Placement.Constraints[2]: constraint expected " + expected)
    assert f"at position {position} of {text!r}" in message


def test_a_constraint_reads_as_it_was_written():
    assert str(parse("Node.Labels.Zone != a b ")) == "node.labels.Zone!=a b"


@pytest.mark.parametrize(
    ("platforms", "fits"),
    [
        (None, True), ([], True), ([Platform()], True), ([Platform(os="linux")], True),
        ([Platform(architecture="amd64", os="Linux")], True), ([Platform(architecture="arm64")], False),
        ([Platform(architecture="arm64"), Platform(architecture="amd64")], True), ([Platform(os="windows")], False),
    ],
)  # fmt: skip
def test_platforms(platforms, fits):
    assert runs_on(Placement(platforms=platforms), HOST) is fits
