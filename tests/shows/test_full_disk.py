# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of a manager fills up: it says so, goes on showing what it knows, and writes again once there is room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covey_lab.host import Host
from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_lab.waiting import wait_until
from covey_shows.cluster import Artifact, Cluster

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def solo(lab: Lab, registry: Registry, artifact: Artifact) -> Iterator[Cluster]:
    """One manager whose state lies on a disk of 32 MiB."""
    lab.fresh(["brim"], "docker")
    lab.host("brim").ssh("mkdir -p /var/lib/covey && mount -t tmpfs -o size=32m,mode=0700 none /var/lib/covey")
    cluster = Cluster(lab, artifact, ["brim"], ["brim"], registry)
    cluster.site()
    yield cluster
    lab.remove(["brim"])


def process(host: Host) -> str:
    return host.ssh("systemctl show -p MainPID -p NRestarts covey").out


def create(cluster: Cluster, name: str) -> str:
    return cluster.docker(
        "service", "create", "--detach", "--name", name, "--replicas", "0", cluster.image(), check=False
    )


def names(cluster: Cluster) -> set[str]:
    return set(cluster.docker("service", "ls", "--format", "{{.Name}}").split())


def test_a_full_disk_is_said_survived_and_over_once_there_is_room(solo: Cluster) -> None:
    host = solo.host("brim")
    create(solo, "before")
    assert names(solo) == {"before"}
    running = process(host)

    host.ssh("dd if=/dev/zero of=/var/lib/covey/lost+found bs=64k 2>/dev/null", check=False)
    wait_until(lambda: tried(solo), 60, "the manager to notice")
    assert "the disk with /var/lib/covey/cluster/raft is full" in error(solo)
    refused = host.docker(
        "-H", "unix:///run/covey/covey.sock", "service", "create", "--name", "refused", solo.image(), check=False
    )
    assert refused.code != 0
    assert "is full" in refused.err
    assert "before" in names(solo)
    assert process(host) == running

    host.ssh("rm /var/lib/covey/lost+found")
    wait_until(lambda: not error(solo), 60, "the manager to go on")
    create(solo, "after")
    assert {"before", "after"} <= names(solo)
    assert "refused" not in names(solo)
    assert process(host) == running

    host.ssh("systemctl restart covey")
    wait_until(lambda: {"before", "after"} <= names(solo), 60, "the same after a restart")


def tried(cluster: Cluster) -> str:
    """What the manager says of itself after one more write."""
    create(cluster, "tried")
    return error(cluster)


def error(cluster: Cluster) -> str:
    return cluster.docker("info", "--format", "{{.Swarm.Error}}").strip()
