# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates are renewed and the root is rotated under writing clients; a removed node is refused everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from covey.security import ca
from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.authority import Outside, ended, make_root
from covey_shows.callers import IDENTITY, REFUSED, call, speaks, stolen
from covey_shows.cluster import SOCKET, Cluster

pytestmark = pytest.mark.lab

COVEY = "/usr/local/bin/covey"

#: Writes with the docker client until told to stop; what failed is written down, too.
WRITER = f"""
n=0
while [ ! -e /tmp/stop ]; do
  n=$((n + 1))
  if timeout 20 docker -H unix://{SOCKET} service create --detach --name NAME-$n --replicas 0 IMAGE >/dev/null 2>/tmp/no
  then echo NAME-$n >> /tmp/acknowledged; else cat /tmp/no >> /tmp/failed; fi
done
"""


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Two managers and a worker, with a service on each."""
    names = ["iron", "zinc", "lead"]
    cluster = make_cluster(names, managers=2)
    cluster.docker("service", "create", "--detach", "--name", "web", "--mode", "global", cluster.image())
    cluster.wait_running("web", 3)
    yield cluster
    cluster.lab.remove(names)


@contextmanager
def undisturbed(cluster: Cluster, story: str) -> Iterator[None]:
    """Inside, clients write on every manager; no write fails or is lost, no container, node or leader changes."""
    before, term = cluster.everything(), status(cluster.manager)["Raft"]["Term"]
    writers = [cluster.host(name) for name in cluster.managers]
    for host in writers:
        host.ssh("rm -f /tmp/stop /tmp/acknowledged /tmp/failed")
    with ThreadPoolExecutor(len(writers)) as pool:
        script = WRITER.replace("IMAGE", cluster.image())
        names = [f"{story}-{host.name}" for host in writers]
        scripts = [script.replace("NAME", name) for name in names]
        writing = [pool.submit(host.ssh, each, timeout=180) for host, each in zip(writers, scripts, strict=True)]
        try:
            yield
        finally:
            for host in writers:
                host.ssh("touch /tmp/stop")
        for one in writing:
            one.result()
    assert cluster.everything() == before
    assert {name: node["Status"]["State"] for name, node in cluster.nodes().items()} == dict.fromkeys(before, "ready")
    assert status(cluster.manager)["Raft"]["Term"] == term
    services = {service["Spec"]["Name"] for service in cluster.get("/services")}
    for host in writers:
        assert host.ssh("cat /tmp/failed 2>/dev/null || true").out == ""
        written = set(host.ssh("cat /tmp/acknowledged").out.split())
        assert written
        assert written <= services
    cluster.docker("service", "rm", *sorted(services - {"web"}))


def status(host: Host) -> dict:
    return json.loads(host.ssh(f"curl -sS --unix-socket {SOCKET} http://x/covey/v1/status").out)


def identity(host: Host) -> dict[str, str]:
    return json.loads(host.ssh(f"cat {IDENTITY}").out)


def test_every_node_renews_at_once_under_load_and_nothing_is_dropped(cluster: Cluster) -> None:
    cluster.docker("swarm", "update", "--cert-expiry", "2h0m0s")
    before = {host.name: identity(host)["Certificate"] for host in cluster.hosts}
    with undisturbed(cluster, "renewal"):
        for host in cluster.hosts:
            said = host.ssh(f"{COVEY} renew").out
            assert said.startswith("certified  until ")
    for host in cluster.hosts:
        assert identity(host)["Certificate"] != before[host.name]
        end = host.ssh(
            f'python3 -c \'import json;print(json.load(open("{IDENTITY}"))["Certificate"])\' | openssl x509 '
            "-noout -checkend 7300; echo $?"
        ).out
        assert end.split()[-1] == "1", "the shorter life counts from the renewal on"


def test_the_root_is_rotated_under_load_by_the_playbook(cluster: Cluster) -> None:
    old, tokens = stolen(cluster.manager), cluster.get("/swarm")["JoinTokens"]
    assert call(cluster.manager.address, old, "GET", "/v1/api/nodes")[0] == 200
    with undisturbed(cluster, "rotation"):
        play = cluster.play("rotate")
        assert "All 3 nodes have moved" in play.output
    root = cluster.docker("swarm", "ca").strip()
    assert root != old.root.strip()
    swarm = cluster.get("/swarm")
    assert not set(swarm["JoinTokens"].values()) & set(tokens.values())
    assert swarm["JoinTokens"]["Worker"].split("-")[2] == ca.root_digest(root.encode())
    assert "SWMTKN" not in play.output
    wait_until(lambda: {identity(host)["Root"].strip() for host in cluster.hosts} == {root}, 30, "the old root to go")
    with pytest.raises(REFUSED):
        call(cluster.manager.address, old, "GET", "/v1/api/nodes")
    assert not speaks(cluster.manager.address, 2378, old)


def test_a_node_that_is_away_holds_the_rotation_up_and_one_that_is_removed_is_refused(cluster: Cluster) -> None:
    away = cluster.host("lead")
    away.ssh("systemctl stop covey")
    wait_until(lambda: cluster.nodes()["lead"]["Status"]["State"] == "down", 30, "the node to be down")
    before = cluster.containers(away)
    cluster.docker("swarm", "ca", "--rotate", "--detach")
    wait_until(lambda: cluster.get("/covey/v1/rotation")["Moved"] == 2, 30, "the others to move")
    assert [node["Hostname"] for node in cluster.get("/covey/v1/rotation")["Waiting"]] == ["lead"]
    (warning,) = [each for each in cluster.get("/info")["Warnings"] if "root certificate" in each]
    assert "waits for lead" in warning
    held = stolen(away)
    cluster.docker("node", "rm", "--force", "lead")
    wait_until(lambda: not cluster.get("/covey/v1/rotation")["InProgress"], 30, "the rotation to end without it")
    away.ssh("systemctl start covey")
    for name in cluster.managers:
        address = cluster.host(name).address
        with pytest.raises(REFUSED):
            call(address, held, "POST", "/v1/renew", {"CSR": ""})
        assert not speaks(address, 2378, held)
    assert cluster.containers(away) == before, "whoever removed it decides about its containers"


def test_a_removed_node_leaves_and_joins_anew(cluster: Cluster) -> None:
    away = cluster.host("lead")
    cluster.docker("swarm", "leave", "--force", on=away)
    token = cluster.docker("swarm", "join-token", "-q", "worker").strip()
    words = ("swarm", "join", "--availability", "drain", "--token", token, f"{cluster.manager.address}:2377")
    cluster.docker(*words, on=away)
    node = cluster.nodes()["lead"]
    assert (node["Status"]["State"], node["Spec"]["Availability"]) == ("ready", "drain")
    cluster.docker("node", "update", "--availability", "active", "lead")
    cluster.wait_running("web", 3)


def test_the_client_shows_how_a_rotation_goes_and_ends_with_the_root(cluster: Cluster) -> None:
    shown = cluster.docker("swarm", "ca", "--rotate")
    assert "desired root digest: sha256:" in shown
    assert "rotated TLS certificates:" in shown
    root = cluster.docker("swarm", "ca").strip()
    assert shown.strip().endswith(root)


@pytest.fixture
def authority(cluster: Cluster) -> Iterator[Outside]:
    """One outside of the cluster, on the lab's bridge; it lets in nodes of the cluster's root of now."""
    address = cluster.registry.address.partition(":")[0]
    with Outside(address, cluster.docker("swarm", "ca").encode()) as outside:
        yield outside


def test_an_authority_outside_of_the_cluster_signs(cluster: Cluster, authority: Outside) -> None:
    """There by the playbook; a node joins and renews by it, also while one of two is down; and back by the client."""
    first, second = authority.urls
    root = authority.root.pem.decode()
    wish = {"covey_rotate_certificate": root, "covey_rotate_external_cas": [first]}
    assert "All 3 nodes have moved" in cluster.play("rotate", variables=wish).output
    assert cluster.docker("swarm", "ca").strip() == root.strip()
    assert f"cfssl: {first}" in cluster.docker("info")
    away = cluster.host("lead")
    cluster.docker("swarm", "leave", "--force", on=away)
    wait_until(lambda: cluster.nodes()["lead"]["Status"]["State"] == "down", 30, "the node to be gone")
    cluster.docker("node", "rm", "--force", "lead")
    token = cluster.docker("swarm", "join-token", "-q", "worker").strip()
    joining = ("swarm", "join", "--token", token, f"{cluster.manager.address}:2377")
    cluster.docker(*joining, on=away)
    assert cluster.nodes()["lead"]["Status"]["State"] == "ready"
    authority.close(first)
    failed = away.ssh(f"{COVEY} renew", check=False)
    assert failed.code != 0
    assert f"{first}: it does not answer" in failed.err + failed.out
    words = [word for url in (first, second) for word in ("--external-ca", f"protocol=cfssl,url={url}")]
    cluster.docker("swarm", "update", *words)
    for host in (cluster.manager, away):
        assert host.ssh(f"{COVEY} renew").out.startswith("certified  until ")
        assert issuer(host) == "issuer=CN = Example Corp swarm"
    cluster.docker("swarm", "ca", "--rotate")
    assert cluster.docker("swarm", "ca").strip() != root.strip()
    wait_until(lambda: {issuer(host) for host in cluster.hosts} == {"issuer=CN = swarm-ca"}, 30, "the last one to move")


def issuer(host: Host) -> str:
    pem = identity(host)["Certificate"]
    return host.ssh(f"echo '{pem}' | openssl x509 -noout -issuer").out.strip()


def test_a_cluster_that_was_off_for_longer_than_its_certificates_comes_back(cluster: Cluster) -> None:
    """As the page on certificates says; by a root of one's own, so that there can be certificates that have ended."""
    root = make_root()
    for name, pem in (("root.pem", root.pem), ("root.key", root.key_pem)):
        cluster.manager.ssh(f"umask 077; cat > {name}", stdin=pem)
    cluster.manager.ssh(f"docker -H unix://{SOCKET} swarm ca --rotate --ca-cert root.pem --ca-key root.key")
    trusted = root.pem.decode().strip()
    wait_until(
        lambda: {identity(host)["Root"].strip() for host in cluster.hosts} == {trusted}, 30, "the old root to go"
    )
    about = status(cluster.manager)["ClusterID"]
    for host in cluster.hosts:
        host.ssh("systemctl stop covey")
        held = identity(host)
        held["Certificate"] = ended(root, held["Certificate"])
        host.ssh(f"cat > {IDENTITY}", stdin=json.dumps(held))
    for host in cluster.hosts:
        host.ssh("systemctl start covey")
        assert "certificate ended on" in status(host)["Error"]
    cluster.play("recover", "-e", "covey_confirm=yes", "-e", "cluster_return_timeout=5")
    nodes = cluster.nodes()
    assert {name: node["Status"]["State"] for name, node in nodes.items()} == dict.fromkeys(cluster.names, "ready")
    assert {name for name in nodes if "ManagerStatus" in nodes[name]} == set(cluster.managers)
    assert {status(host)["ClusterID"] for host in cluster.hosts} == {about}
    cluster.wait_running("web", 3)


def test_a_removed_node_says_so(cluster: Cluster) -> None:
    away = cluster.host("lead")
    held = stolen(away)
    cluster.docker("node", "rm", "--force", "lead")
    for name in cluster.managers:
        status_code, answer = call(cluster.host(name).address, held, "POST", "/v1/renew", {"CSR": ""})
        assert (status_code, "was removed" in answer["message"]) == (403, True)
        assert not speaks(cluster.host(name).address, 2378, held)
    wait_until(lambda: "removed" in status(away)["Error"], 60, "the node to say that it was removed")
    assert "Swarm: error" in away.docker("-H", f"unix://{SOCKET}", "info").out
