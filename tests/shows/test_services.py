# SPDX-License-Identifier: GPL-3.0-or-later
"""Services on one manager and two workers, through the real docker client: spread, scale, heal, remove."""

from __future__ import annotations

from collections import Counter

import pytest

from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster

pytestmark = pytest.mark.lab


def create(cluster: Cluster, name: str, *flags: str, replicas: int = 6) -> None:
    cluster.docker(
        "service", "create", "--detach", "--name", name, "--replicas", str(replicas), *flags, cluster.image()
    )
    cluster.wait_running(name, replicas)


@pytest.fixture
def web(cluster: Cluster):
    create(cluster, "web")
    yield "web"
    cluster.docker("service", "rm", "web")
    wait_until(lambda: not any(cluster.everything().values()), 40, "every container of web to be gone")


def test_the_client_sees_the_cluster(cluster: Cluster) -> None:
    assert "Swarm: active" in cluster.docker("info")
    listed = cluster.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}")
    assert sorted(line.strip() for line in listed.splitlines()) == [
        "one Ready Active Leader",
        "three Ready Active",
        "two Ready Active",
    ]
    assert "NAMES" in cluster.docker("ps")
    assert cluster.docker("run", "--rm", cluster.image("covey/busybox"), "echo", "hello").strip() == "hello"


def test_six_spread_evenly_scale_and_go(cluster: Cluster) -> None:
    create(cluster, "web")
    assert cluster.spread("web") == Counter(one=2, two=2, three=2)
    cluster.docker("service", "scale", "web=9")
    assert cluster.spread("web") == Counter(one=3, two=3, three=3)
    cluster.docker("service", "scale", "web=3")
    cluster.wait_running("web", 3)
    assert cluster.spread("web") == Counter(one=1, two=1, three=1)
    assert "web" in cluster.docker("service", "ls")
    assert cluster.docker("service", "ps", "web", "--format", "{{.CurrentState}}").count("Running") == 3
    cluster.docker("service", "rm", "web")
    wait_until(lambda: not any(cluster.everything().values()), 40, "nothing left behind on any host")
    assert cluster.get("/tasks") == []


def test_logs_and_exec_reach_the_local_engine(cluster: Cluster, web: str) -> None:
    name = next(iter(cluster.containers(cluster.manager)))
    assert cluster.docker("exec", name, "echo", "inside").strip() == "inside"
    assert (
        cluster.manager.ssh(f"echo piped | docker -H unix:///run/covey/covey.sock exec -i {name} cat").out == "piped\n"
    )
    cluster.docker("logs", name)


def test_a_killed_process_is_replaced(cluster: Cluster, web: str) -> None:
    victim = cluster.tasks(web)[0]
    host = next(h for h in cluster.hosts if cluster.nodes()[h.name]["ID"] == victim["NodeID"])
    host.ssh(f"kill -9 {victim['Status']['ContainerStatus']['PID']}")
    wait_until(lambda: victim["ID"] not in {t["ID"] for t in cluster.tasks(web)}, 20, "the dead task to be seen")
    after = cluster.wait_running(web, 6)
    assert victim["Slot"] in {task["Slot"] for task in after}
    dead = cluster.get(f"/tasks/{victim['ID']}")
    assert dead["Status"]["State"] == "failed"
    assert "137" in dead["Status"]["Err"]


def test_a_lost_worker_is_replaced_and_returns_as_itself(cluster: Cluster, web: str) -> None:
    before = cluster.nodes()["three"]["ID"]
    lost = cluster.host("three")
    lost.plug()
    wait_until(lambda: cluster.spread(web) == Counter(one=3, two=3), 40, "its tasks to run elsewhere")
    assert cluster.nodes()["three"]["Status"]["State"] == "down"
    lost.boot()
    wait_until(lambda: cluster.nodes()["three"]["Status"]["State"] == "ready", 60, "it to be back")
    assert cluster.nodes()["three"]["ID"] == before
    running = wait_until(lambda: not cluster.containers(lost, everything=False), 30, "nothing to be doubled")
    assert running
    assert len(cluster.wait_running(web, 6)) == 6


def test_an_update_replaces_one_after_the_other(cluster: Cluster, web: str) -> None:
    cluster.docker("service", "update", "--detach", "--image", cluster.image(tag="2"), web)

    fewest = 6

    def updated() -> bool:
        nonlocal fewest
        tasks = cluster.tasks(web)
        fewest = min(fewest, len(tasks))
        return len(tasks) == 6 and all(":2" in task["Spec"]["ContainerSpec"]["Image"] for task in tasks)

    wait_until(updated, 120, "all six to run the new image")
    assert fewest == 5, "with parallelism 1 exactly one replica may be missing at a time"


def test_an_image_that_does_not_exist_says_so(cluster: Cluster) -> None:
    missing = cluster.image("covey/nothing")
    cluster.docker("service", "create", "--detach", "--name", "bad", missing)
    try:

        def reason() -> str:
            return cluster.docker("service", "ps", "bad", "--no-trunc", "--format", "{{.Error}}")

        wait_until(lambda: "covey/nothing" in reason() or "manifest unknown" in reason(), 40, "the engine's own words")
    finally:
        cluster.docker("service", "rm", "bad")


def test_what_cannot_be_placed_is_explained(cluster: Cluster) -> None:
    flags = ("--constraint", "node.labels.disk==ssd")
    cluster.docker("service", "create", "--detach", "--name", "picky", *flags, cluster.image())
    try:

        def explained() -> bool:
            text = cluster.docker("service", "ps", "picky", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}")
            return "Pending" in text and "no suitable node" in text

        wait_until(explained, 20, "the pending task to say why")
        cluster.docker("node", "update", "--label-add", "disk=ssd", "two")
        cluster.wait_running("picky", 1)
        assert cluster.spread("picky") == Counter(two=1)
    finally:
        cluster.docker("service", "rm", "picky")
