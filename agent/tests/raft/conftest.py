# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters for the tests of the Raft store."""

import pytest

from covey.store.raft import Timings
from tests.raft.harness import Authority, Cluster


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def cluster(tmp_path, authority):
    cluster = Cluster(tmp_path, authority)
    yield cluster
    await cluster.close()


@pytest.fixture
async def calm(cluster):
    """A cluster that keeps its first leader, however busy this machine is."""
    cluster.timings = Timings(election_min=20, election_max=30, leader_fallback=30)
    return cluster
