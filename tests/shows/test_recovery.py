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
from covey_shows.cluster import Cluster

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
        """The only one here."""
        (found,) = self.place.glob("covey-*.backup")
        return found


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
