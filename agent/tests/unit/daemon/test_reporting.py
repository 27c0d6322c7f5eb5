# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself, and which of several troubles it names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from authority import Authority

from covey.api.ports import LocalState
from covey.daemon import reporting
from covey.daemon.clock import SystemClock
from covey.daemon.places import Settings
from covey.model.admission import ManagerInfo
from covey.model.ids import to_id
from covey.model.spec import Role
from covey.security.certificate import read_certificate, read_peer

NOW = SystemClock().now()
DAY = 86_400.0
AUTHORITY = Authority(to_id(900))
WHO = AUTHORITY.identity(1, Role.MANAGER)
SETTINGS = Settings(advertise="192.0.2.1", listen="0.0.0.0:2377")
MANAGERS = (ManagerInfo(node_id=to_id(1), addr="192.0.2.1:2377"),)


def member(**facts):
    fine = {"settled": True, "superseded": "", "refusal": "", "trouble": ""}
    return SimpleNamespace(who=WHO, managers=lambda: MANAGERS, **{**fine, **facts})


def test_in_no_cluster():
    assert reporting.outside().state is LocalState.INACTIVE


def test_a_locked_manager_says_what_can_be_read_of_it():
    found = reporting.locked(read_peer(read_certificate(WHO.certificate)), SETTINGS)
    assert (found.state, found.node_id, found.cluster_id) == (LocalState.LOCKED, WHO.node_id, WHO.cluster_id)
    assert (found.role, found.advertise_addr, found.certificate) == (Role.MANAGER, "192.0.2.1", None)


def test_a_member_says_who_it_is():
    found = reporting.member(member(), SETTINGS, NOW)
    assert (found.state, found.error) == (LocalState.ACTIVE, "")
    assert (found.node_id, found.role, found.managers) == (WHO.node_id, Role.MANAGER, MANAGERS)
    assert found.certificate == (WHO.not_before, WHO.not_after)


@pytest.mark.parametrize(
    ("facts", "state", "error"),
    [
        ({"settled": False}, LocalState.PENDING, ""),
        ({"trouble": "the disk is full"}, LocalState.ACTIVE, "the disk is full"),
        ({"settled": False, "trouble": "the disk is full"}, LocalState.PENDING, "the disk is full"),
        ({"refusal": "it was removed"}, LocalState.ERROR, "it was removed"),
        ({"superseded": "recovered", "refusal": "removed", "trouble": "full"}, LocalState.ERROR, "recovered"),
    ],
)
def test_what_is_wrong_is_named_the_worst_first(facts, state, error):
    found = reporting.member(member(**facts), SETTINGS, NOW)
    assert (found.state, found.error) == (state, error)


@pytest.mark.parametrize(("later", "words"), [(2 * DAY, "ended on"), (-DAY, "the clock is wrong")])
def test_a_certificate_that_does_not_hold_comes_before_all_else(later, words):
    found = reporting.member(member(refusal="it was removed"), SETTINGS, NOW + later)
    assert (found.state, words in found.error) == (LocalState.ERROR, True)
