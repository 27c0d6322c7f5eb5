# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager whose disk is full hands over, promises nothing, shows what it knows, and goes on once there is room."""

import errno
import os

import pytest

from covey.model.errors import Unavailable
from covey.state.apply import Outcome
from tests.raft.clients import batch_of
from tests.raft.simulation import Simulation


@pytest.fixture(params=range(4))
def sim(request, tmp_path, monkeypatch):
    """Three managers with a leader that have written something."""
    sim = Simulation(tmp_path, request.param, monkeypatch, rate=15.0)
    sim.found(3)
    live(sim, 1)
    yield sim
    sim.close()


def live(sim, seconds):
    sim.clients.begin(seconds)
    sim.run(seconds)


def of(sim, leads):
    return next(node for node in sim.nodes.values() if (node is sim.leader()) is leads)


def acknowledged(sim):
    return len(sim.oracle.acknowledged)


def test_a_leader_hands_over_at_once_and_the_others_go_on(sim):
    full, before = of(sim, leads=True), acknowledged(sim)
    full.files.full = True
    live(sim, 0.2)
    assert sim.leader() not in (None, full)
    live(sim, 5)
    assert acknowledged(sim) > before + 50
    assert full.driver is not None
    assert "is full" in full.driver.trouble


def test_it_takes_part_again_by_itself(sim):
    full = of(sim, leads=True)
    full.files.full = True
    live(sim, 5)
    behind = full.core.raftLastApplied
    full.files.full = False
    live(sim, 3)
    assert full.driver.trouble == ""
    assert full.core.raftLastApplied > behind
    sim.settle()


def test_a_full_follower_counts_for_nothing(sim):
    """With the third manager away nothing may be acknowledged, for only one disk would hold it."""
    full, leader = of(sim, leads=False), sim.leader()
    full.files.full = True
    live(sim, 1)
    before = acknowledged(sim)
    for node in sim.nodes.values():
        if node not in (full, leader):
            node.die()
    live(sim, 5)
    assert acknowledged(sim) == before
    assert sim.leader() is None
    sim.settle()


def test_a_follower_that_is_full_knows_who_leads_and_what_was_applied(sim):
    full, known = of(sim, leads=False), sim.leader().node_id
    full.files.full = True
    live(sim, 3)
    assert full.core.leader == known
    known = full.machine.state()
    assert known == sim.oracle.views[known.index]


def test_it_gives_no_vote(sim):
    """Of three, one is dead, one is full: the third asks in vain, and is elected as soon as there is room."""
    full, dead = of(sim, leads=False), sim.leader()
    full.files.full = True
    live(sim, 1)
    dead.die()
    live(sim, 5)
    assert sim.leader() is None
    full.files.full = False
    live(sim, 5)
    assert sim.leader() not in (None, full)
    sim.settle()


def test_it_may_crash_and_start_while_the_disk_is_full(sim):
    full = of(sim, leads=True)
    full.files.full = True
    live(sim, 2)
    full.die()
    full.start()
    live(sim, 3)
    assert full.driver is not None
    assert full.core.leader == sim.leader().node_id
    sim.settle()


def test_a_snapshot_for_it_waits_for_room(sim):
    full = of(sim, leads=False)
    full.die()
    live(sim, 6)
    full.files.full = True
    full.start()
    live(sim, 5)
    assert full.driver.trouble
    assert not list(full.directory.glob("snapshot.received"))
    sim.settle()


@pytest.fixture
def lone(tmp_path, monkeypatch):
    sim = Simulation(tmp_path, 0, monkeypatch)
    sim.found(1)
    live(sim, 1)
    yield sim
    sim.close()


def propose(sim, node):
    found = []
    node.driver.propose(batch_of(f"asked at {sim.now}", ""), 0, found.append)
    node.kick()
    sim.run(0.2)
    return found


def test_a_lone_manager_says_why_it_writes_nothing_and_goes_on_later(lone):
    (node,) = lone.nodes.values()
    node.files.full = True
    propose(lone, node)
    (refusal,) = propose(lone, node)
    assert isinstance(refusal, Unavailable)
    assert f"the disk with {node.directory} is full" in str(refusal)
    assert "Nothing was changed" in str(refusal)
    node.files.full = False
    lone.run(2)
    assert isinstance(propose(lone, node)[0], Outcome)
    lone.settle()


def test_a_lone_manager_starts_on_a_full_disk(lone):
    (node,) = lone.nodes.values()
    node.files.full = True
    propose(lone, node)
    node.die()
    node.start()
    lone.run(2)
    assert node.driver.trouble
    node.files.full = False
    lone.run(2)
    assert node.core.settled
    lone.settle()


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_another_error_of_the_disk_ends_the_member(lone, monkeypatch, number):
    (node,) = lone.nodes.values()

    def write(fd, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(node.files, "write", write)
    propose(lone, node)
    assert node.driver is None
