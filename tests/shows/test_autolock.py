# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers with a locked disk: they start locked, say so, leave containers alone, and go on with the right key only."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

import pytest

from covey_lab.host import Host, Result
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Cluster

pytestmark = pytest.mark.lab

RAFT = "/var/lib/covey/cluster/raft"
IDENTITY = "/var/lib/covey/cluster/identity/identity.json"
WRONG = "SWMKEY-1-" + "A" * 43


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    names = ["oak", "elm", "ash"]
    cluster = make_cluster(names, managers=3)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 3)
    yield cluster
    cluster.lab.remove(names)


def state(cluster: Cluster, host: Host) -> str:
    return cluster.docker("info", "--format", "{{.Swarm.LocalNodeState}}", on=host, check=False).strip()


def is_locked_on_disk(host: Host) -> bool:
    look = f"test ! -e {RAFT}/kek && grep -q 'BEGIN ENCRYPTED PRIVATE KEY' {IDENTITY} && echo locked"
    return host.ssh(look, check=False).out.strip() == "locked"


def unlock(host: Host, key: str) -> Result:
    return host.docker("-H", f"unix://{SOCKET}", "swarm", "unlock", check=False, stdin=f"{key}\n")


def unlock_key(output: str) -> str:
    (key,) = set(re.findall(r"SWMKEY-1-[A-Za-z0-9+/]{43}", output))
    return str(key)


def restart(cluster: Cluster, *hosts: Host) -> None:
    for host in hosts:
        host.allow_restarts("covey")
        host.ssh("systemctl restart covey")
    for host in hosts:
        wait_until(lambda host=host: state(cluster, host) == "locked", 30, f"{host.name} to say that it is locked")


def test_locking_the_life_of_a_key_and_unlocking(cluster: Cluster) -> None:
    first, second, _ = cluster.hosts
    before = cluster.everything()
    key = unlock_key(cluster.docker("swarm", "update", "--autolock=true"))
    for host in cluster.hosts:
        wait_until(lambda host=host: is_locked_on_disk(host), 20, f"{host.name} to lock its disk")
        assert key not in host.ssh("journalctl -u covey").out
        assert host.ssh(f"grep -rlaF {key} /var/lib/covey /etc/covey", check=False).out == ""

    restart(cluster, second)
    refused = second.docker("-H", f"unix://{SOCKET}", "node", "ls", check=False)
    assert "Swarm is encrypted and needs to be unlocked before it can be used" in refused.out + refused.err
    assert "locked" in cluster.docker("info", on=second)
    assert cluster.docker("service", "ls", on=first)
    assert "invalid key provided" in unlock(second, WRONG).err
    assert state(cluster, second) == "locked"
    assert unlock(second, key).code == 0
    cluster.wait_managers(40)
    assert "swarm is not locked" in unlock(second, key).err
    assert cluster.everything() == before

    newer = unlock_key(cluster.docker("swarm", "unlock-key", "--rotate"))
    assert newer != key
    for host in cluster.hosts:
        wait_until(lambda host=host: "key number 2" in host.ssh("journalctl -u covey").out, 20, "the new key")
    restart(cluster, *cluster.hosts)
    for host in cluster.hosts:
        assert "invalid key provided" in unlock(host, key).err
        assert unlock(host, newer).code == 0
    cluster.wait_managers()
    assert cluster.everything() == before

    cluster.docker("swarm", "update", "--autolock=false")
    for host in cluster.hosts:
        wait_until(lambda host=host: not is_locked_on_disk(host), 20, f"{host.name} to unlock its disk")
        host.ssh("systemctl restart covey")
    cluster.wait_managers()
    assert cluster.everything() == before


def test_the_playbook_locks_with_the_key_of_a_vault_and_unlocks_what_it_finds_locked(cluster: Cluster) -> None:
    key = "SWMKEY-1-" + base64.b64encode(b"0123456789abcdef" * 2).decode().rstrip("=")
    before = cluster.everything()
    locked = cluster.site(cluster_autolock=True, cluster_unlock_key=key)
    for host in cluster.hosts:
        wait_until(lambda host=host: is_locked_on_disk(host), 20, f"{host.name} to lock its disk")
    assert unlock_key(cluster.docker("swarm", "unlock-key")) == key
    restart(cluster, *cluster.hosts)
    unlocked = cluster.site(cluster_autolock=True, cluster_unlock_key=key)
    cluster.wait_managers()
    assert not any(cluster.site(cluster_autolock=True, cluster_unlock_key=key).changed.values())
    assert key not in locked.output + unlocked.output
    assert cluster.everything() == before
