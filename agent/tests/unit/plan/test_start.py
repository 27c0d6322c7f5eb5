# SPDX-License-Identifier: GPL-3.0-or-later
"""When tasks that wait at READY may run."""

from __future__ import annotations

import pytest
from builders import Ids, S, node, service, task, view

from covey.model.units import SECOND
from covey.plan.start import PATIENCE, start

NOW = 1000.0
WEB = service("web", 1)


def plan(*things):
    found = start(view(node("n1"), node("n2"), WEB, *things), NOW, Ids())
    assert all(change.object.desired_state is S.RUNNING for change in found.changes)
    return [change.object.id for change in found.changes], found.wake_at


def ready(**parts):
    return task(WEB, 1, S.READY, id="next", on="n2", desired_state=S.READY, created_at=NOW - 1, **parts)


def test_runs_when_its_time_has_come():
    assert plan(ready()) == (["next"], None)
    assert plan(ready(start_at=NOW)) == (["next"], None)
    assert plan(ready(start_at=NOW + 5)) == ([], NOW + 5)


def test_wakes_for_the_first_of_several():
    later = task(WEB, 2, S.READY, desired_state=S.READY, start_at=NOW + 3)
    assert plan(ready(start_at=NOW + 5), later) == ([], NOW + 3)


@pytest.mark.parametrize("desired", [S.SHUTDOWN, S.REMOVE])
def test_waits_for_the_slot_to_be_clear_but_not_for_ever(desired):
    web = service("web", 1, grace=30 * SECOND)
    old = task(web, 1, on="n1", desired_state=desired)
    assert plan(ready(), old) == ([], NOW - 1 + 30 + PATIENCE)
    assert plan(ready(start_at=NOW + 500), old) == ([], NOW + 500)
    default = task(WEB, 1, on="n1", desired_state=desired)
    assert plan(ready(), default) == ([], NOW - 1 + 10 + PATIENCE)
    given_up = task(service("web", 1, grace=0), 1, on="n1", desired_state=desired)
    late = task(WEB, 1, S.READY, id="next", on="n2", desired_state=S.READY, created_at=NOW - PATIENCE)
    assert plan(late, given_up) == (["next"], None)


def test_nobody_else_is_waited_for():
    others = [
        task(WEB, 1, S.FAILED, id="over", on="n1", desired_state=S.SHUTDOWN),
        task(WEB, 1, S.PENDING, id="never placed", desired_state=S.SHUTDOWN),
        task(WEB, 1, id="on a lost node", on="gone", desired_state=S.SHUTDOWN),
        task(WEB, 2, id="another slot", on="n1", desired_state=S.SHUTDOWN),
    ]
    assert plan(ready(), others) == (["next"], None)
    down = node("n3", state="down")
    assert plan(ready(), down, task(WEB, 1, on="n3", desired_state=S.SHUTDOWN)) == (["next"], None)


def test_only_what_waits_is_told_to_run():
    assert plan(task(WEB, 1), task(WEB, 2, desired_state=S.SHUTDOWN)) == ([], None)
