# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the cluster is what the inventory says, and no run makes a second cluster beside a living one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_shows.cluster import Artifact, Cluster

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def pair(lab: Lab, registry: Registry, artifact: Artifact) -> Iterator[Cluster]:
    lab.fresh(["left", "right"], "docker")
    yield Cluster(lab, artifact, ["left", "right"], ["left"], registry)
    lab.remove(["left", "right"])


def roles(cluster: Cluster) -> dict[str, str]:
    return {name: "manager" if node.get("ManagerStatus") else "worker" for name, node in cluster.nodes().items()}


def test_only_the_first_manager_forms_a_cluster(pair: Cluster) -> None:
    play = pair.play("site", "--limit", "right", check=False)
    assert play.code != 0
    assert "left, the first of covey_managers, is not part of this run" in play.output

    pair.site(cluster_node_labels={"disk": "ssd"}, cluster_node_availability="active")
    assert roles(pair) == {"left": "manager", "right": "worker"}
    assert {name: node["Spec"]["Labels"] for name, node in pair.nodes().items()} == {
        "left": {"disk": "ssd"},
        "right": {"disk": "ssd"},
    }


def test_one_host_goes_and_comes_back(pair: Cluster) -> None:
    pair.play("reset", "--limit", "right", variables={"covey_confirm": "yes"})
    assert roles(pair) == {"left": "manager"}
    assert pair.host("right").ssh("ls /var/lib/covey /opt/covey /etc/covey", check=False).code != 0

    pair.host("left").ssh("systemctl stop covey")
    play = pair.play("site", "--limit", "right", check=False)
    assert play.code != 0
    assert "left did not say" in play.output
    pair.host("left").ssh("systemctl start covey")

    play = pair.site("--limit", "right")
    assert roles(pair) == {"left": "manager", "right": "worker"}
    assert "left" not in play.changed


def test_a_role_is_what_the_inventory_says(pair: Cluster) -> None:
    pair.managers = ["left", "right"]
    pair.site()
    assert roles(pair) == {"left": "manager", "right": "manager"}
    pair.managers = ["right"]
    pair.site()
    assert roles(pair) == {"left": "worker", "right": "manager"}
    assert not any(pair.site().changed.values())
