# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shows share: the built artifact, and clusters made from it by the real playbooks on real hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_shows.cluster import Artifact, Cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    """The collection as a user installs it, and the wheels its agent needs, built once."""
    subprocess.run(["tools/collection", "build"], cwd=ROOT, check=True)
    subprocess.run(["tools/collection", "install", "build/collections"], cwd=ROOT, check=True)
    subprocess.run(["tools/collection", "wheelhouse", "build/wheelhouse"], cwd=ROOT, check=True)
    return Artifact(ROOT / "build")


@pytest.fixture(scope="session")
def make_cluster(lab: Lab, registry: Registry, artifact: Artifact) -> Callable[..., Cluster]:
    """`make_cluster(names, managers=1)`: fresh hosts with Docker Engine, a cluster on them by site.yml."""

    def make(names: list[str], managers: int = 1) -> Cluster:
        lab.fresh(names, "docker")
        cluster = Cluster(lab, artifact, names, names[:managers], registry)
        cluster.site()
        return cluster

    return make


@pytest.fixture(scope="session")
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """One manager and two workers, shared: every test leaves it whole and without services."""
    return make_cluster(["one", "two", "three"])
