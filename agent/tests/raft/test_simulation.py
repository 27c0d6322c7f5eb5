# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeded lives of a cluster, full of crashes in the middle of a write, cut and stalled links, and snapshots."""

import pytest

from tests.raft.simulation import Simulation


@pytest.mark.parametrize("seed", range(20))
def test_three_managers_keep_every_acknowledged_write(tmp_path, monkeypatch, seed):
    sim = Simulation(tmp_path, seed, monkeypatch)
    sim.found(3)
    sim.run(20, sim.trouble)
    sim.settle()
    assert sim.outcomes["acknowledged"]


@pytest.mark.parametrize("seed", range(12))
def test_full_disks_cost_no_acknowledged_write_either(tmp_path, monkeypatch, seed):
    sim = Simulation(tmp_path, 1000 + seed, monkeypatch)
    sim.found(3)
    sim.disks_fill = True
    sim.run(20, sim.trouble)
    sim.settle()
    assert sim.outcomes["acknowledged"]
