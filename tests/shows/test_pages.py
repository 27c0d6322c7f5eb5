# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages on locks, certificates, secrets and day two, followed by hand: what is typed is what they say."""

from __future__ import annotations

import re
from functools import partial

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import Cluster
from covey_shows.guide import follow

pytestmark = pytest.mark.lab

KEY = re.compile(r"SWMKEY-1-[A-Za-z0-9+/]{43}")


def test_locking(cluster: Cluster) -> None:
    manager = cluster.manager
    page = partial(follow, "autolock.md", on=manager)
    assert KEY.fullmatch(page("""echo "SWMKEY-1-$(openssl rand -base64 32 | tr -d =)\"""").out.strip())

    (first,) = KEY.findall(page("docker swarm update --autolock=true").out)
    assert page("docker swarm unlock-key -q").out.strip() == first
    (key,) = KEY.findall(page("docker swarm unlock-key --rotate").out)
    assert key != first
    wait_until(lambda: "key number 2" in manager.ssh("journalctl -u covey").out, 20, "the manager to take it over")
    manager.allow_restarts("covey")
    manager.ssh("systemctl restart covey")
    state = partial(page, "docker info --format '{{.Swarm.LocalNodeState}}'")
    wait_until(lambda: state().out.strip() == "locked", 30, "the manager to start locked")
    page("docker swarm unlock", answer=key)
    wait_until(lambda: cluster.nodes(), 30, "it to be a manager again")
    page("docker swarm update --autolock=false")
    wait_until(lambda: manager.ssh("test -e /var/lib/covey/cluster/raft/kek", check=False).ok, 20, "the lock to go")
    for host in cluster.hosts:
        wait_until(lambda host=host: "state      active" in status(host), 30, f"{host.name} to have found it again")


def status(host: Host) -> str:
    return follow("certificates.md", "covey status", host, check=False).out


def test_certificates_and_a_root_of_ones_own(cluster: Cluster) -> None:
    manager, worker = cluster.hosts[:2]
    page = partial(follow, "certificates.md", on=manager)
    assert "certified  until" in status(worker)
    root = page("docker swarm ca").out
    assert "BEGIN CERTIFICATE" in root
    issuer = partial(
        page, "docker node inspect --format '{{.Description.TLSInfo.CertIssuerSubject}}' HOST", meaning={"HOST": "two"}
    )
    of_the_cluster = issuer().out
    page("docker swarm update --cert-expiry 720h")
    assert "certified  until" in follow("certificates.md", "covey renew", worker).out
    cluster.docker("swarm", "update", "--cert-expiry", "2160h0m0s")

    page("openssl ecparam -genkey -name prime256v1 -noout -out root.key")
    page(
        'openssl req -x509 -new -key root.key -days 3650 -subj "/CN=Example Corp swarm" -out root.pem '
        '-addext "keyUsage=critical,keyCertSign,cRLSign"'
    )
    page("docker swarm ca --rotate --ca-cert root.pem --ca-key root.key")
    assert page("docker swarm ca").out.strip() == manager.ssh("cat root.pem").out.strip()
    assert issuer().out != of_the_cluster
    page("docker swarm ca --rotate")
    manager.ssh("rm root.key root.pem")
    assert issuer().out == of_the_cluster
    assert page("docker swarm ca").out != root
    token = cluster.get("/swarm")["JoinTokens"]["Worker"]
    page("docker swarm join-token --rotate worker")
    assert cluster.get("/swarm")["JoinTokens"]["Worker"] != token


def test_secrets_and_their_values(cluster: Cluster) -> None:
    page = partial(follow, "secrets.md", on=cluster.manager)
    value = {'"$PASSWORD"': "the-first"}
    page('printf %s "$PASSWORD" | docker secret create db_password -', meaning=value)
    cluster.manager.ssh("echo port=5432 > db.conf")
    page("docker config create db.conf ./db.conf")
    page(
        "docker service create --name db --secret db_password --config source=db.conf,target=/etc/db.conf "
        "registry.example.org/db:9",
        meaning={"registry.example.org/db:9": cluster.image(), "--name db": "--detach --name db"},
    )

    def held() -> str:
        """What the one container that runs can read."""
        (task,) = cluster.wait_running("db", 1)
        host = next(host for host in cluster.hosts if cluster.nodes()[host.name]["ID"] == task["NodeID"])
        (name,) = (name for name in cluster.containers(host, everything=False) if name.startswith("db."))
        return host.docker("exec", name, "sh", "-c", "cat /run/secrets/db_password /etc/db.conf").out

    def wait_held(value: str) -> None:
        wait_until(lambda: held() == f"{value}port=5432\n", 60, f"{value} to be delivered")

    wait_held("the-first")
    page('printf %s "$PASSWORD" | covey secret update db_password -', meaning={'"$PASSWORD"': "the-second"})
    wait_held("the-second")
    page("docker service rollback db", meaning={"rollback db": "rollback --detach db"})
    wait_held("the-first")
    page('printf %s "$PASSWORD" | covey secret update db_password -', meaning={'"$PASSWORD"': "the-third"})
    wait_held("the-third")
    assert len(page("covey secret values db_password").out.splitlines()) == 3
    page("covey secret rollback db_password")
    wait_held("the-second")
    page("covey secret rollback db_password --number 3")
    wait_held("the-third")
    assert "db_password" not in page("covey secret prune --dry-run").out, "it is in use"
    cluster.docker("service", "rm", "db")
    dry_run = partial(page, "covey secret prune --dry-run")
    wait_until(lambda: "db_password" in dry_run().out, 30, "nothing to use it any more")
    page("covey secret prune --label stack=old", meaning={" --label stack=old": ""})
    follow("secrets.md", "covey config", cluster.manager, {"config": "config prune"})
    for kind in ("secret", "config"):
        assert cluster.docker(kind, "ls", "-q") == ""
    cluster.manager.ssh("rm db.conf")


def test_a_host_has_to_go_for_a_while(cluster: Cluster) -> None:
    page = partial(follow, "operations.md", on=cluster.manager)
    cluster.docker("service", "create", "--detach", "--name", "web", "--replicas", "3", cluster.image())
    cluster.wait_running("web", 3)
    page("docker node update --availability drain HOST", meaning={"HOST": "two"})
    wait_until(lambda: cluster.spread("web") and "two" not in cluster.spread("web"), 60, "its tasks to run elsewhere")
    cluster.wait_running("web", 3)
    page("docker node update --availability active HOST", meaning={"HOST": "two"})
    shown = page("docker service ps NAME --no-trunc", meaning={"NAME": "web"}).out
    assert shown.count("Running") >= 3
    for line in ("covey status", "docker node ls", "docker service ls", "journalctl -u covey -n 50"):
        assert page(line).out
    cluster.docker("service", "rm", "web")
    wait_until(lambda: not any(cluster.everything().values()), 60, "every container to be gone")
