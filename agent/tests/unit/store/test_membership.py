# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the voters."""

import pytest

from covey.model.errors import BadState, FailedPrecondition
from covey.store.raft.membership import (
    Change,
    check_change,
    decode_change,
    encode_change,
    first_entries,
    joiner_entries,
    members_after,
)

THREE = {"a": "a:1", "b": "b:1", "c": "c:1"}


def test_a_change_survives_the_log():
    change = Change(True, "a", "a:1")
    assert decode_change(encode_change(change)) == change
    assert decode_change(b"\x00" + encode_change(change)) is None


@pytest.mark.parametrize(
    "entry",
    [encode_change(Change(True, "a", "a:1", 2)), b"\x07of a later release", b""],
    ids=["change", "kind", "none"],
)
def test_an_entry_that_a_later_release_wrote_is_not_passed_over(entry):
    with pytest.raises(BadState, match="upgrade this manager"):
        decode_change(entry)


def test_members_follow_the_log():
    entries = [(encode_change(Change(add, node, f"{node}:1")), 0, 0) for add, node in ((True, "c"), (False, "a"))]
    assert members_after({"a": "a:1"}, entries) == {"c": "c:1"}


def test_a_change_can_be_undone():
    for change in (Change(True, "d", "d:1"), Change(False, "a", "a:1")):
        assert change.apply(change.apply(THREE), reverse=True) == THREE


def test_a_cluster_begins_with_its_founder_and_a_joiner_with_nobody():
    assert members_after({}, first_entries("a", "a:1")) == {"a": "a:1"}
    assert members_after({}, joiner_entries()) == {}


@pytest.mark.parametrize(
    ("add", "node", "reachable"),
    [(True, "d", "abcd"), (True, "d", "abd"), (False, "c", "ab"), (False, "c", "abc")],
)
def test_a_change_that_keeps_a_majority_is_allowed(add, node, reachable):
    check_change(Change(add, node, ""), THREE, frozenset(reachable))


@pytest.mark.parametrize(("add", "node", "reachable"), [(True, "d", "ad"), (False, "c", "a"), (False, "c", "ac")])
def test_a_change_that_would_cost_it_is_refused(add, node, reachable):
    with pytest.raises(FailedPrecondition, match=r"silent: b"):
        check_change(Change(add, node, ""), THREE, frozenset(reachable))
