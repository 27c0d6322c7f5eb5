# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from builders import S

from covey.executor.base import Container, ContainerState
from covey.model.objects import Task, TaskStatus
from covey.model.tasks import is_terminal
from covey.worker.machine import Action, Scene, Step, after_failure, next_step

NOW = 5.0
CREATED = Container(id="c1", task_id="t1", name="web.1.t1", state=ContainerState.CREATED)
RUNNING = replace(CREATED, state=ContainerState.RUNNING, pid=7)
DONE = replace(CREATED, state=ContainerState.EXITED, exit_code=0)
CRASHED = replace(DONE, exit_code=3)
STARTING_UP = replace(RUNNING, health="starting")
HEALTHY = replace(RUNNING, health="healthy")
ILL = replace(RUNNING, health="unhealthy", health_output="no answer")
PULL, CREATE, START, STOP, REMOVE = Action
STATES = [S.ASSIGNED, S.ACCEPTED, S.PREPARING, S.READY, S.STARTING, S.RUNNING, S.COMPLETE, S.SHUTDOWN, S.FAILED]
CONTAINERS = [None, CREATED, RUNNING, DONE, CRASHED, STARTING_UP, HEALTHY, ILL]


def scene(state: S | None, container: Container | None = None, wanted: S = S.RUNNING, **parts: object) -> Scene:
    task = Task(id="t1", service_id="s1", service_name="web", slot=1, desired_state=wanted)
    status = None if state is None else TaskStatus(state=state, message=str(state))
    return Scene(**{"task": task, "status": status, "container": container, **parts})  # type: ignore[arg-type]


def outcome(step: Step) -> object:
    return step.state if isinstance(step, TaskStatus) else step


UP = S.RUNNING


@pytest.mark.parametrize(
    ("state", "container", "wanted", "expected"),
    [
        (None, None, UP, S.ACCEPTED),
        (S.ASSIGNED, None, UP, S.ACCEPTED),
        (S.ASSIGNED, None, S.READY, S.ACCEPTED),
        (S.ACCEPTED, None, UP, S.PREPARING),
        (S.PREPARING, None, UP, PULL),
        (S.PREPARING, CREATED, UP, S.READY),
        (S.PREPARING, RUNNING, UP, S.READY),  # adopted
        (S.READY, CREATED, S.READY, None),  # pauses
        (S.READY, CREATED, UP, S.STARTING),
        (S.READY, RUNNING, S.READY, S.STARTING),  # started, and the agent ended before it could say so
        (S.READY, None, UP, S.REJECTED),
        (S.STARTING, CREATED, UP, START),
        (S.STARTING, RUNNING, UP, S.RUNNING),
        (S.STARTING, STARTING_UP, UP, None),
        (S.STARTING, HEALTHY, UP, S.RUNNING),
        (S.STARTING, ILL, UP, STOP),
        (S.STARTING, DONE, UP, S.COMPLETE),
        (S.STARTING, CRASHED, UP, S.FAILED),
        (S.STARTING, None, UP, S.FAILED),
        (S.RUNNING, RUNNING, UP, None),
        (S.RUNNING, HEALTHY, UP, None),
        (S.RUNNING, ILL, UP, STOP),
        (S.RUNNING, DONE, UP, S.COMPLETE),
        (S.RUNNING, CRASHED, UP, S.FAILED),
        (S.RUNNING, None, UP, S.FAILED),
        (S.RUNNING, RUNNING, S.COMPLETE, None),
        (S.ASSIGNED, None, S.SHUTDOWN, S.SHUTDOWN),
        (S.PREPARING, CREATED, S.SHUTDOWN, S.SHUTDOWN),
        (S.RUNNING, RUNNING, S.SHUTDOWN, STOP),
        (S.RUNNING, CRASHED, S.SHUTDOWN, S.SHUTDOWN),
        (S.RUNNING, None, S.SHUTDOWN, S.SHUTDOWN),
        (S.RUNNING, RUNNING, S.REMOVE, STOP),
        (S.RUNNING, CRASHED, S.REMOVE, REMOVE),
        (S.READY, CREATED, S.REMOVE, REMOVE),
        (S.RUNNING, None, S.REMOVE, S.SHUTDOWN),
        (S.FAILED, CRASHED, UP, None),  # kept for its logs
        (S.FAILED, CRASHED, S.SHUTDOWN, None),
        (S.FAILED, CRASHED, S.REMOVE, REMOVE),
        (S.SHUTDOWN, DONE, S.REMOVE, REMOVE),
        (S.FAILED, None, S.REMOVE, None),
        (S.ORPHANED, RUNNING, UP, STOP),  # the managers gave it up while we were away
    ],
)
def test_each_rung(state: S | None, container: Container | None, wanted: S, expected: object) -> None:
    assert outcome(next_step(scene(state, container, wanted), NOW)) == expected


def test_with_the_image_there_the_container_is_made() -> None:
    assert next_step(scene(S.PREPARING, pulled=True), NOW) is CREATE


@pytest.mark.parametrize(
    ("container", "expected"), [(RUNNING, STOP), (CREATED, REMOVE), (CRASHED, REMOVE), (None, None)]
)
def test_what_no_assignment_names_is_stopped_and_removed(container: Container | None, expected: object) -> None:
    unnamed = replace(scene(None, container), task=None)
    assert next_step(unnamed, NOW) == expected
    assert next_step(replace(unnamed, heard=False), NOW) is None


def test_a_crash_tells_exit_code_container_and_time() -> None:
    status = next_step(scene(S.RUNNING, CRASHED), NOW)
    assert isinstance(status, TaskStatus)
    assert (status.err, status.timestamp) == ("task: non-zero exit (3)", NOW)
    assert status.container is not None
    assert (status.container.container_id, status.container.exit_code) == ("c1", 3)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (replace(CRASHED, exit_code=137, oom_killed=True), "task: non-zero exit (137): out of memory"),
        (replace(CRASHED, error="exec failed"), "task: non-zero exit (3): exec failed"),
        (
            replace(DONE, health="unhealthy", health_output="no answer"),
            "unhealthy container; the last check",
        ),
        (None, "the container was removed"),
    ],
)
def test_each_bad_end_says_why(container: Container | None, words: str) -> None:
    status = next_step(scene(S.RUNNING, container), NOW)
    assert isinstance(status, TaskStatus)
    assert status.state is S.FAILED
    assert status.err.startswith(words)


def test_a_silent_engine_decides_nothing_but_says_what_holds_a_task_up() -> None:
    for state, container, wanted in product(STATES, CONTAINERS, (S.RUNNING, S.SHUTDOWN, S.REMOVE)):
        step = next_step(scene(state, container, wanted, engine_error="silent"), NOW)
        held_up = S.ACCEPTED <= state < S.RUNNING
        if state is S.ASSIGNED:
            assert outcome(step) is S.ACCEPTED
        else:
            assert (step.err if isinstance(step, TaskStatus) else step) == ("silent" if held_up else None)
            assert not isinstance(step, TaskStatus) or step.state is state


def test_what_was_in_the_way_is_taken_back() -> None:
    held_up = scene(S.READY, CREATED, S.READY)
    held_up = replace(held_up, status=TaskStatus(state=S.READY, err="silent"))
    assert next_step(held_up, NOW) == TaskStatus(state=S.READY, timestamp=NOW)
    assert next_step(replace(held_up, failures=1), NOW) is None


def test_every_step_climbs_or_acts_and_nothing_is_touched_unheard() -> None:
    for state, container, wanted in product(STATES, CONTAINERS, (S.READY, S.RUNNING, S.SHUTDOWN, S.REMOVE)):
        before = scene(state, container, wanted, heard=False)
        step = next_step(before, NOW)
        assert not isinstance(step, Action)
        for _ in STATES:
            if step is None:
                break
            assert isinstance(step, TaskStatus)
            assert before.status is not None
            assert step.state > before.status.state
            assert not is_terminal(before.status.state)
            before = replace(before, status=step)
            step = next_step(before, NOW)
        assert step is None


def test_what_cannot_be_prepared_is_rejected_and_what_cannot_be_started_has_failed() -> None:
    for action, state, expected in (
        (PULL, S.PREPARING, S.REJECTED),
        (CREATE, S.PREPARING, S.REJECTED),
        (START, S.STARTING, S.FAILED),
    ):
        status = after_failure(scene(state), action, "the engine's words", NOW)
        assert status is not None
        assert (status.state, status.err, status.timestamp) == (expected, "the engine's words", NOW)


def test_what_cannot_be_stopped_stays_and_says_so_once() -> None:
    running = scene(S.RUNNING, RUNNING, S.SHUTDOWN)
    status = after_failure(running, STOP, "busy", NOW)
    assert status is not None
    assert (status.state, status.err) == (S.RUNNING, "busy")
    assert after_failure(replace(running, status=status), STOP, "busy", NOW) is None
    assert next_step(replace(running, status=status, failures=1), NOW) is STOP


def test_the_reason_of_an_end_is_not_written_over() -> None:
    ended = replace(scene(S.FAILED, CRASHED, S.REMOVE), status=TaskStatus(state=S.FAILED, err="exit 3"))
    assert after_failure(ended, REMOVE, "busy", NOW) is None
    assert after_failure(replace(ended, task=None), REMOVE, "busy", NOW) is None


def test_a_removal_that_fails_does_not_hold_up_the_end() -> None:
    stopped = scene(S.RUNNING, CRASHED, S.REMOVE)
    assert outcome(next_step(replace(stopped, failures=1), NOW)) is S.SHUTDOWN


def test_that_memory_was_the_reason_is_told_even_if_it_is_known_late() -> None:
    crashed = next_step(scene(S.RUNNING, CRASHED), NOW)
    assert isinstance(crashed, TaskStatus)
    late = replace(scene(S.FAILED, replace(CRASHED, oom_killed=True)), status=crashed)
    told = next_step(late, NOW)
    assert isinstance(told, TaskStatus)
    assert (told.state, "out of memory" in told.err) == (S.FAILED, True)
    assert next_step(replace(late, status=told), NOW) is None
