# SPDX-License-Identifier: GPL-3.0-or-later
"""The worst nights, as the guide tells them: a backup, two of three managers lost, all managers lost.

One cluster lives through all of it; the tests build on each other in this order.
"""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Cluster

pytestmark = pytest.mark.lab

PASSPHRASE = "seven tired owls at night"
WRONG = "seven tired owls at noon"
#: In the environment of a service, so in the state.
MARK = "kingfisher-41c7"
#: What only a reader of the state could have printed.
OF_THE_STATE = (MARK, "SWMTKN", "PRIVATE KEY")


@dataclass(frozen=True)
class Controller:
    """Where the operator sits: a directory, and the passphrase in a vault."""

    place: Path

    @property
    def vault(self) -> tuple[str, ...]:
        """Words that hand it to a playbook."""
        return "-e", f"@{self.place}/vault.yml", "--vault-password-file", f"{self.place}/vault-password"

    @property
    def backup(self) -> Path:
        """The one that was named by the playbook."""
        (found,) = self.place.glob("covey-*.backup")
        return found

    @property
    def last_backup(self) -> Path:
        """The one to come back to."""
        return self.place / "last.backup"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    made = Controller(tmp_path_factory.mktemp("controller"))
    (made.place / "vault.yml").write_text(json.dumps({"cluster_backup_passphrase": PASSPHRASE}))
    (made.place / "vault-password").write_text("of the vault\n")
    encrypt = ["ansible-vault", "encrypt", *made.vault[2:], str(made.place / "vault.yml")]
    subprocess.run(encrypt, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    names = ["north", "south", "west"]
    cluster = make_cluster(names, managers=3)
    serve(cluster, "web", "--env", f"MARK={MARK}")
    cluster.docker("service", "create", "--detach", "--name", "early", "--replicas", "0", cluster.image())
    yield cluster
    cluster.lab.remove(names)


def serve(cluster: Cluster, name: str, *words: str) -> None:
    """A service with a container on every host."""
    cluster.docker("service", "create", "--detach", "--name", name, "--mode", "global", *words, cluster.image())
    cluster.wait_running(name, 3)


def covey(host: Host, *words: str, check: bool = True, stdin: str = "") -> str:
    """What the agent's command line says on that host, refusals too."""
    done = host.ssh(" ".join(("covey", *words)), check=check, stdin=stdin)
    assert check or done.code == 1, done
    return done.out + done.err


def refused(host: Host, *words: str, stdin: str = "") -> str:
    return covey(host, *words, check=False, stdin=stdin)


def ids(cluster: Cluster) -> dict[str, str]:
    return {name: node["ID"] for name, node in cluster.nodes().items()}


def services(cluster: Cluster) -> set[str]:
    return {service["Spec"]["Name"] for service in cluster.get("/services")}


def test_a_backup_opens_with_its_passphrase_and_no_other(cluster: Cluster, controller: Controller) -> None:
    manager = cluster.hosts[1]
    about = cluster.get("/covey/v1/status", on=manager)
    manager.ssh("umask 077 && cat > /root/passphrase", stdin=f"{PASSPHRASE}\n")
    said = covey(manager, "cluster backup /root/cluster.backup --passphrase-file /root/passphrase")
    assert f"cluster    {about['ClusterID']}" in said
    assert covey(manager, "cluster inspect /root/cluster.backup") == said
    verify = "cluster inspect /root/cluster.backup --verify --passphrase-file -"
    assert (
        covey(manager, verify, stdin=f"{PASSPHRASE}\n")
        == f"{said}opens      3 nodes, 2 services, 0 secrets, 0 configs\n"
    )
    assert "not the one that this backup was made with" in refused(manager, verify, stdin=f"{WRONG}\n")
    assert manager.ssh("stat -c '%a %U' /root/cluster.backup").out == "600 root\n"
    again = "cluster backup /root/cluster.backup --passphrase-file -"
    assert "/root/cluster.backup is there already" in refused(manager, again, stdin=f"{PASSPHRASE}\n")
    assert "shorter than 12 characters" in refused(
        manager, "cluster backup /root/short --passphrase-file -", stdin="owls\n"
    )
    assert manager.ssh("ls /root").out.split() == ["cluster.backup", "passphrase"]

    play = cluster.play("backup", *controller.vault, "-vvv", cwd=controller.place)
    assert "EXEC" in play.output
    for secret in (PASSPHRASE, *OF_THE_STATE):
        assert secret not in play.output
    fetched = controller.backup.read_bytes()
    assert controller.backup.name.startswith(f"covey-{about['ClusterID']}-")
    assert stat.S_IMODE(controller.backup.stat().st_mode) == 0o600
    assert json.loads(fetched.splitlines()[1])["ClusterID"] == about["ClusterID"]
    assert not any(mark.encode() in fetched for mark in OF_THE_STATE)
    assert manager.ssh("find /tmp /root/.ansible -name 'covey-*'", check=False).out == ""

    there = {"cluster_backup_file": str(controller.backup)}
    play = cluster.play("backup", *controller.vault, variables=there, check=False)
    assert "is there already" in play.output
    play = cluster.play("backup", variables={"cluster_backup_passphrase": "owls"}, check=False, cwd=controller.place)
    assert "to 12 characters or more" in play.output
    assert controller.backup.read_bytes() == fetched


def test_nothing_is_restored_beside_a_manager_that_lives(cluster: Cluster, controller: Controller) -> None:
    before, nodes = cluster.everything(), ids(cluster)
    wish = {"cluster_backup_file": str(controller.backup)}
    play = cluster.play("restore", *controller.vault, variables=wish, check=False)
    assert "is a manager of a living cluster" in play.output
    assert set(play.changed.values()) == {0}
    assert "already part of a swarm" in refused(
        cluster.hosts[1], "cluster restore /root/cluster.backup --passphrase-file /root/passphrase"
    )
    assert (cluster.everything(), ids(cluster)) == (before, nodes)


def managers(cluster: Cluster) -> dict[str, str]:
    """What `docker node ls` says of each host: Leader, Reachable, Unreachable, or nothing for a worker."""
    out = cluster.docker("node", "ls", "--format", "{{.Hostname}}={{.ManagerStatus}}")
    return dict(line.split("=") for line in out.split())


def lose_agent(host: Host) -> None:
    """No word from it any more, while its containers run on."""
    host.allow_restarts("covey")
    host.ssh("systemctl kill --signal=KILL covey; systemctl stop covey")


def leaderless(host: Host) -> bool:
    asked = host.docker("-H", f"unix://{SOCKET}", "node", "ls", check=False)
    return "The swarm does not have a leader" in asked.err


def ready(cluster: Cluster) -> set[str]:
    return {name for name, node in cluster.nodes().items() if node["Status"]["State"] == "ready"}


def test_two_of_three_managers_are_lost_and_come_back_as_workers(cluster: Cluster) -> None:
    crashed, left, silent = cluster.hosts
    cluster.contact = left.name
    serve(cluster, "late")
    cluster.docker("service", "rm", "early")
    cluster.docker("swarm", "join-token", "--rotate", "worker")
    nodes, running = ids(cluster), cluster.containers(left)
    crashed.plug()
    lose_agent(silent)
    wait_until(lambda: leaderless(left), 30, "the last manager to notice")
    said = refused(left, "status")
    assert "leader     none" in said
    assert "log        term " in said
    assert "index" in covey(left, "cluster backup /root/left.backup --local --passphrase-file /root/passphrase")
    assert "say --yes if it is" in refused(left, "cluster recover")
    play = cluster.play("recover", "--check", check=False)
    assert "south knows term " in play.output
    assert "To go on with: south" in play.output
    assert play.failed == {"north": 1, "south": 0, "west": 0}
    play = cluster.play("recover", "--limit", "south,west", check=False)
    assert "say so: -e covey_confirm=yes" in play.output
    assert set(play.changed.values()) == {0}
    assert leaderless(left)

    meant = ("-e", "covey_confirm=yes", "-e", "cluster_return_timeout=4")
    play = cluster.play("recover", "--limit", "south,west", *meant, check=False)
    assert play.failed == {"south": 0, "west": 1}
    assert "the agent on west does not answer" in play.output
    assert managers(cluster) == {"north": "", "south": "Leader", "west": ""}
    assert services(cluster) == {"web", "late"}
    assert ids(cluster) == nodes
    assert cluster.containers(left) == running
    assert left.ssh("ls /var/lib/covey/kept").out.startswith("raft-")

    crashed.boot()
    silent.ssh("systemctl start covey")
    wait_until(lambda: ready(cluster) == set(cluster.names), 60, "the lost ones to be back")
    for host in (crashed, silent):
        wait_until(lambda host=host: "(worker)" in covey(host, "status"), 30, f"{host.name} to be a worker")
        assert host.ssh("ls /var/lib/covey/kept").out.startswith("raft-")
    assert managers(cluster) == {"north": "", "south": "Leader", "west": ""}
    for host in cluster.hosts:
        # Those that were away for long had their tasks replaced, as on any host that was lost.
        wait_until(lambda host=host: len(cluster.containers(host, everything=False)) == 2, 60, f"both on {host.name}")
    assert cluster.containers(left) == running

    cluster.play("recover")
    cluster.wait_managers(30)
    assert ids(cluster) == nodes
    assert cluster.containers(left) == running
    abouts = [cluster.get("/covey/v1/status", on=host) for host in cluster.hosts]
    assert len({(about["ClusterID"], about["Leader"]["NodeID"]) for about in abouts}) == 1


def test_by_hand_and_managers_that_are_back_within_seconds_keep_their_containers(cluster: Cluster) -> None:
    first, left, third = cluster.hosts
    before, nodes = cluster.everything(), ids(cluster)
    for host in (first, third):
        lose_agent(host)
    wait_until(lambda: leaderless(left), 30, "the last manager to notice")
    cluster.docker("swarm", "init", "--force-new-cluster")
    for host in (first, third):
        host.ssh("systemctl start covey")
    for host in (first, third):
        wait_until(lambda host=host: "(worker)" in covey(host, "status"), 30, f"{host.name} to be a worker")
    assert managers(cluster) == {"north": "", "south": "Leader", "west": ""}
    for host in (first, third):
        cluster.docker("node", "promote", host.name)
        wait_until(lambda host=host: managers(cluster)[host.name] == "Reachable", 30, f"{host.name} to vote")
    assert (cluster.everything(), ids(cluster)) == (before, nodes)


def test_a_locked_manager_is_unlocked_and_never_made_to_leave(cluster: Cluster) -> None:
    *others, locked = cluster.hosts
    before, nodes = [cluster.containers(host) for host in others], ids(cluster)
    key = cluster.docker("swarm", "update", "--autolock=true").split("SWMKEY-1-")[1].split()[0]
    sealed = "grep -q 'BEGIN ENCRYPTED' /var/lib/covey/cluster/identity/identity.json"
    wait_until(
        lambda: locked.ssh(f"{sealed} && ! test -e /var/lib/covey/cluster/raft/kek", check=False).ok, 20, "a lock"
    )
    locked.ssh("systemctl restart covey")
    wait_until(lambda: "state      locked" in refused(locked, "status"), 30, "west to be locked")
    play = cluster.play("recover", "--limit", "west", check=False)
    assert "This manager is locked: set cluster_unlock_key" in play.output
    assert "state      locked" in refused(locked, "status")
    play = cluster.play("recover", "--limit", "west", "-vvv", variables={"cluster_unlock_key": f"SWMKEY-1-{key}"})
    assert key not in play.output
    cluster.wait_managers(30)
    cluster.docker("swarm", "update", "--autolock=false")
    assert ([cluster.containers(host) for host in others], ids(cluster)) == (before, nodes)


def served(cluster: Cluster, host: Host, everything: bool = False) -> set[str]:
    """The services that have a running container there, or any at all."""
    return {name.split(".")[0] for name in cluster.containers(host, everything)}


def test_no_manager_is_left_and_a_backup_is_restored(cluster: Cluster, controller: Controller) -> None:
    first, second, worker = cluster.hosts
    wish = {"cluster_backup_file": str(controller.last_backup)}
    cluster.play("backup", *controller.vault, variables=wish)
    there = cluster.containers(worker, everything=False)
    (web,) = (name for name in there if name.startswith("web."))
    serve(cluster, "after")
    cluster.docker("service", "rm", "late")
    cluster.managers, cluster.contact = ["north", "south"], "south"
    for host in (worker, first):
        cluster.docker("node", "demote", host.name)
        wait_until(lambda host=host: "(worker)" in covey(host, "status"), 30, f"{host.name} to be a worker")
    # The only manager that west knows is south, and the backup comes back on north.
    wait_until(lambda: len(cluster.get("/covey/v1/status", on=worker)["Managers"]) == 1, 30, "west to know of no other")
    node = ids(cluster)["west"]
    running = cluster.containers(worker)
    for host in (first, second):
        host.wipe()
    for host in (first, second):
        host.boot()
    cluster.contact = ""

    play = cluster.play("restore", variables={**wish, "cluster_backup_passphrase": WRONG}, check=False)
    assert "the passphrase is not the one that this backup was made with" in play.output
    assert "so west has no cluster to come back to and was left as it is" in play.output
    assert "state      inactive" in refused(first, "status")
    assert cluster.containers(worker) == running

    play = cluster.play("restore", *controller.vault, "-vvv", variables=wish)
    for secret in (PASSPHRASE, *OF_THE_STATE):
        assert secret not in play.output
    told = play.output.split("Tell those that still look for it")[1].split("TASK [")[0]
    assert "changed: [west]" in told
    assert sorted(managers(cluster).items()) == [("north", "Leader"), ("south", "Reachable"), ("west", "")]
    assert ids(cluster)["west"] == node
    assert services(cluster) == {"web", "late"}
    both = {"web", "late"}
    for host in cluster.hosts:
        # Nothing is left of what the backup does not know, not even stopped.
        wait_until(
            lambda host=host: served(cluster, host) == served(cluster, host, everything=True) == both,
            60,
            f"both on {host.name}, no more",
        )
    assert cluster.containers(worker)[web] == there[web], "what the backup knows of and is still there is kept"
    cluster.wait_running("web", 3)
