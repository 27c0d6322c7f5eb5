# SPDX-License-Identifier: GPL-3.0-or-later
"""Elections with pre-vote, among the store's own cores in virtual time: a good leader stays, a dead one is replaced."""

import pytest

from tests.raft.simnode import TIMINGS
from tests.raft.simulation import Simulation

SEEDS = range(5)


@pytest.fixture(params=SEEDS)
def sim(request, tmp_path, monkeypatch):
    """Three managers with a leader."""
    sim = Simulation(tmp_path, request.param, monkeypatch)
    sim.found(3)
    yield sim
    sim.close()


def followers(sim):
    return [node for node in sim.nodes.values() if node is not sim.leader()]


def standing(sim):
    return sim.leader().node_id, sim.leader().core.raftCurrentTerm


def cut(sim, source, target):
    sim.pipes[source.node_id, target.node_id].cuts = 1


def live(sim, seconds):
    sim.clients.begin(seconds)
    sim.run(seconds)


def test_one_who_cannot_hear_the_leader_does_not_depose_it(sim):
    before, leader, deaf = standing(sim), sim.leader(), followers(sim)[0]
    cut(sim, leader, deaf)
    live(sim, 10)
    assert standing(sim) == before
    sim.settle()
    assert standing(sim) == before


def test_one_who_hears_nobody_does_not_depose_it(sim):
    before, (deaf, other), leader = standing(sim), followers(sim), sim.leader()
    cut(sim, leader, deaf)
    cut(sim, other, deaf)
    live(sim, 10)
    sim.settle()
    assert standing(sim) == before


def test_one_who_was_cut_off_comes_back_in_the_old_term(sim):
    before, away = standing(sim), followers(sim)[0]
    for node in sim.nodes.values():
        if node is not away:
            cut(sim, away, node)
            cut(sim, node, away)
    live(sim, 10)
    assert away.core.raftCurrentTerm == before[1]
    sim.settle()
    assert standing(sim) == before


def test_one_who_comes_back_from_a_later_term_takes_part_again(sim):
    """As after an election that was won in advance, begun and then cut off: it must neither be lost nor go on so."""
    stranded = followers(sim)[0]
    stranded.core._catch_up(stranded.core.raftCurrentTerm + 7)
    live(sim, 3)
    sim.settle()
    term = sim.leader().core.raftCurrentTerm
    live(sim, 5)
    assert {node.core.raftCurrentTerm for node in sim.nodes.values()} == {term}


def test_a_dead_leader_is_replaced_within_two_time_outs(sim):
    dead = sim.leader()
    dead.die()
    sim.run(2 * TIMINGS.election_max)
    assert sim.leader() is not None
    assert sim.leader() is not dead


def test_a_leader_that_nobody_hears_is_replaced(sim):
    mute = sim.leader()
    for node in followers(sim):
        cut(sim, mute, node)
    live(sim, 4)
    assert sim.leader() is not mute
    sim.settle()


def test_leadership_is_handed_over_although_the_old_leader_is_heard(sim):
    live(sim, 0.2)
    sim.run(0.3)
    old, term = standing(sim)
    sim.leader().core.transferLeadership()
    sim.run(0.1)
    assert sim.leader().node_id != old
    assert sim.leader().core.raftCurrentTerm == term + 1
    sim.settle()


def test_one_who_was_away_follows_a_leader_it_never_heard_of(sim):
    """It would refuse that leader's connections as a stranger's, and never force it to give way."""
    away = followers(sim)[0]
    away.die()
    sim.join("node-3")
    for _ in range(20):
        sim.run(1)
        if sim.leader().node_id == "node-3":
            break
        sim.leader().core.transferLeadership()
    away.start()
    assert "node-3" not in away.core.configuration
    sim.run(5)
    assert away.core.leader == "node-3"
    sim.settle()
