# SPDX-License-Identifier: GPL-3.0-or-later
"""The next release comes in, and goes, without a container noticing, and not while a manager is away."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from covey import __version__
from covey_lab.host import Host
from covey_shows.cluster import Artifact, Cluster
from covey_shows.guide import follow

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
FORMER, NEXT = __version__, "0.2.0"
#: What a release is made of.
SOURCES = ["agent", "changelogs", "docs", "galaxy.yml", "LICENSE", "Makefile", "meta", "playbooks", "plugins"]
SOURCES += ["pyproject.toml", "README.md", "roles", "tools"]


@pytest.fixture(scope="module")
def coming(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The next release: the same code under a higher version, with the same wheels for its agent."""
    source = tmp_path_factory.mktemp("next")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.whl"))
        else:
            shutil.copy(ROOT / name, source / name)
    for name in ["galaxy.yml", "agent/covey/__init__.py"]:
        text = (source / name).read_text()
        raised = re.sub(r'^(version: |__version__ = ")[0-9.]+', rf"\g<1>{NEXT}", text, flags=re.MULTILINE)
        assert raised != text
        (source / name).write_text(raised)
    subprocess.run(["tools/collection", "build"], cwd=source, check=True)
    subprocess.run(["tools/collection", "install", "build/collections"], cwd=source, check=True)
    (source / "build/wheelhouse").symlink_to(artifact.wheelhouse)
    return Artifact(source / "build")


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    names = ["fig", "nut", "pea", "oat", "rye"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", len(names))
    yield cluster
    cluster.lab.remove(names)


def leader(cluster: Cluster) -> str:
    (found,) = [name for name, node in cluster.nodes().items() if node.get("ManagerStatus", {}).get("Leader")]
    return found


def release(cluster: Cluster, host: Host) -> str:
    """What runs there, as its agent says."""
    return str(cluster.get("/covey/v1/status", on=host)["Version"])


def releases(cluster: Cluster) -> set[str]:
    return {release(cluster, host) for host in cluster.hosts}


def started(cluster: Cluster) -> dict[str, int]:
    """When each host's agent was started."""
    ask = "systemctl show --property=ExecMainStartTimestampMonotonic --value covey"
    return {host.name: int(host.ssh(ask).out) for host in cluster.hosts}


def test_a_manager_that_is_down_stops_an_upgrade_before_anything_changes(cluster: Cluster, coming: Artifact) -> None:
    before = started(cluster)
    away = next(host for host in cluster.managing if host.name != leader(cluster))
    away.ssh("systemctl stop covey")
    cluster.artifact, current = coming, cluster.artifact
    play = cluster.play("upgrade", check=False)
    cluster.artifact = current
    assert play.code != 0
    assert f"These managers are not reachable: {away.name}." in play.output
    assert not any(play.changed.values())
    away.ssh("systemctl start covey")
    assert releases(cluster) == {FORMER}
    after = started(cluster)
    assert [name for name in before if after[name] != before[name]] == [away.name]


#: Lets every release start but RELEASE.
REFUSAL = """
mkdir -p /run/systemd/system/covey.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "! readlink /opt/covey/current | grep -q /RELEASE"\\n' \\
  > /run/systemd/system/covey.service.d/refusal.conf
systemctl daemon-reload
"""
CONSENT = "rm -r /run/systemd/system/covey.service.d; systemctl daemon-reload"


@contextmanager
def refused(release: str, *hosts: Host) -> Iterator[None]:
    """Inside, that release does not start on these hosts."""
    for host in hosts:
        host.ssh(REFUSAL.replace("RELEASE", release))
    yield
    for host in hosts:
        host.ssh(CONSENT)


def test_a_release_that_does_not_start_is_taken_back_and_nobody_else_gets_it(
    cluster: Cluster, coming: Artifact
) -> None:
    cluster.wait_managers(40)
    containers, before = cluster.everything(), started(cluster)
    cluster.artifact, current = coming, cluster.artifact
    with refused(NEXT, *cluster.managing):
        play = cluster.play("upgrade", check=False)
    cluster.artifact = current
    assert play.code != 0
    assert f"It was put back to {FORMER}+" in play.output
    assert ", which runs. The end of its journal:\\n" in play.output
    assert releases(cluster) == {FORMER}
    after = started(cluster)
    assert len([name for name in before if after[name] != before[name]]) == 1
    assert cluster.everything() == containers


def test_managers_follow_each_other_and_who_leads_comes_last(cluster: Cluster, coming: Artifact) -> None:
    cluster.wait_managers(40)
    cluster.artifact = coming
    containers, led = cluster.everything(), leader(cluster)
    checked = cluster.play("upgrade", "--check", "--limit", led)
    assert checked.changed[led] > 0
    assert NEXT not in releases(cluster)
    cluster.play("upgrade")
    assert releases(cluster) == {NEXT}
    order = started(cluster)
    assert sorted(order, key=order.__getitem__)[-3] == led, "who leads after the managers, then the workers"
    assert cluster.everything() == containers


def put_back_by_hand(host: Host) -> None:
    """As the page on upgrades says."""
    kept = follow("upgrade.md", "ls -t /opt/covey/releases", host).out.split()
    (former,) = [name for name in kept if name.startswith(FORMER)]
    link = "ln -sfn /opt/covey/releases/RELEASE /opt/covey/current"
    follow("upgrade.md", link, host, {"RELEASE": former})
    follow("upgrade.md", "systemctl restart covey", host)


def test_the_way_back_is_the_same_and_needs_the_key_of_locked_managers(cluster: Cluster, artifact: Artifact) -> None:
    """The first worker cannot go back, and nobody after it does until it can."""
    cluster.wait_managers(40)
    containers, before = cluster.everything(), started(cluster)
    key = cluster.docker("swarm", "update", "--autolock=true").split("SWMKEY-1-")[1].split()[0]
    cluster.artifact = artifact
    for wrong, said in (("", "set cluster_unlock_key to the key"), (f"SWMKEY-1-{'A' * 43}", "is another one than")):
        play = cluster.play("upgrade", variables={"cluster_unlock_key": wrong}, check=False)
        assert said in play.output
        assert started(cluster) == before

    unlocking = {"cluster_unlock_key": f"SWMKEY-1-{key}", "covey_upgrade_batch": 1}
    workers = [cluster.host("oat"), cluster.host("rye")]
    with refused(FORMER, *workers):
        play = cluster.play("upgrade", "-vvv", variables=unlocking, check=False)
    assert f"It was put back to {NEXT}+" in play.output
    assert key not in play.output
    assert {release(cluster, host) for host in cluster.managing} == {FORMER}
    assert {release(cluster, host) for host in workers} == {NEXT}
    after = started(cluster)
    (failed,) = [host for host in workers if after[host.name] != before[host.name]]
    put_back_by_hand(failed)
    assert release(cluster, failed) == FORMER
    cluster.play("upgrade", variables=unlocking)
    assert releases(cluster) == {FORMER}
    assert cluster.everything() == containers
