# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is told."""

from __future__ import annotations

from builders import S, replace, service, task, view

from covey.plan.assign import assigned, difference, versions

WEB = service("web", 3)


def test_a_node_knows_its_placed_tasks_dead_ones_included_but_no_orphans():
    tasks = [
        task(WEB, 1, S.ASSIGNED, on="n1"), task(WEB, 2, S.FAILED, on="n1", desired_state=S.SHUTDOWN),
        task(WEB, 3, S.ORPHANED, on="n1"), task(WEB, 4, on="n2"), task(WEB, 5, S.PENDING, on="n1"),
    ]  # fmt: skip
    assert set(assigned(view(WEB, tasks), "n1")) == {"t1", "t2"}
    assert assigned(view(), "n1") == {}


def test_the_difference_is_what_managers_wrote_since():
    first = assigned(view(WEB, task(WEB, 1, on="n1"), task(WEB, 2, on="n1"), task(WEB, 3, on="n1")), "n1")
    sent = versions(first)
    assert difference({}, first) == (tuple(first.values()), ())
    told = replace(first["t1"], desired_state=S.SHUTDOWN, version=2)
    observed = task(WEB, 2, S.FAILED, on="n1")
    new = task(WEB, 9, on="n1")
    now = assigned(view(WEB, told, observed, new), "n1")
    assert difference(sent, now) == ((told, new), ("t3",))
