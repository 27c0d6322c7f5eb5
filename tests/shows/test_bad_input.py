# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input on real hosts: a clear error, and nothing lost.

`outsider` is a host with the agent that is in no cluster; every test leaves it so, or says what it left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.security import ca
from covey.security.tokens import make_token
from covey_lab.host import Host
from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Artifact, Cluster

pytestmark = pytest.mark.lab

AGENT_ONLY = str(Path(__file__).with_name("agent_only.yml"))
COVEY = f"docker -H unix://{SOCKET}"


@pytest.fixture(scope="module")
def outsider(lab: Lab, artifact: Artifact, registry: Registry) -> Iterator[Host]:
    lab.fresh(["outsider"], "docker")
    Cluster(lab, artifact, ["outsider"], ["outsider"], registry).play(AGENT_ONLY)
    lab.host("outsider").allow_restarts("docker")
    yield lab.host("outsider")
    lab.remove(["outsider"])


def refusal(host: Host, command: str) -> str:
    """What a command says that must fail."""
    done = host.ssh(f"{command} 2>&1", check=False)
    assert done.code != 0, done.out
    return done.out


def state(host: Host) -> str:
    return json.loads(host.ssh(f"curl -s --unix-socket {SOCKET} http://x/covey/v1/status").out)["State"]


def token(cluster: Cluster) -> str:
    return cluster.docker("swarm", "join-token", "-q", "worker").strip()


def join(cluster: Cluster, host: Host, with_token: str) -> str:
    return refusal(host, f"{COVEY} swarm join --token {with_token} {cluster.manager.address}:2377")


def test_tokens(cluster: Cluster, outsider: Host) -> None:
    good = token(cluster)
    assert "not a join token" in join(cluster, outsider, "hello")
    assert "copy the token whole" in join(cluster, outsider, good[:-3])
    foreign = make_token(ca.create_root(1_700_000_000.0).cert_pem, bytes(16))
    assert "another cluster" in join(cluster, outsider, foreign)
    cluster.docker("swarm", "join-token", "--rotate", "-q", "worker")
    assert "rotated" in join(cluster, outsider, good)
    assert state(outsider) == "inactive"
    assert len(cluster.nodes()) == 3


def test_a_taken_port(outsider: Host) -> None:
    outsider.ssh("systemd-run --unit=squatter python3 -m http.server 2377")
    try:
        wait_until(lambda: outsider.ssh("ss -ltn sport = :2377").out.count("LISTEN") == 1, 20, "the squatter")
        assert "port 2377" in refusal(outsider, f"{COVEY} swarm init")
    finally:
        outsider.ssh("systemctl stop squatter")
    assert state(outsider) == "inactive"


def test_an_engine_whose_own_swarm_mode_is_active(outsider: Host) -> None:
    settings = "/etc/docker/daemon.json"
    outsider.ssh(f"cp {settings} /root/daemon.json; echo '{{}}' > {settings}; systemctl restart docker")
    outsider.ssh(f"docker swarm init --listen-addr {outsider.address}:4444 --advertise-addr {outsider.address}")
    try:
        assert "docker swarm leave" in refusal(outsider, f"{COVEY} swarm init")
    finally:
        outsider.ssh(f"docker swarm leave --force; cp /root/daemon.json {settings}; systemctl restart docker")
    assert state(outsider) == "inactive"


def test_no_engine(outsider: Host) -> None:
    outsider.ssh("systemctl stop docker.socket docker")
    try:
        assert "does not answer" in refusal(outsider, f"{COVEY} ps")
        assert "does not answer" in refusal(outsider, f"{COVEY} swarm init")
    finally:
        outsider.ssh("systemctl start docker.socket docker")


def test_a_typo_in_the_configuration(outsider: Host) -> None:
    file = "/etc/covey/coveyd.toml"
    outsider.ssh(f"cp {file} /tmp/good.toml; sed -i 's/^state_dir/stat_dir/' {file}")
    try:
        outsider.ssh("systemctl restart covey", check=False)
        said = outsider.ssh("journalctl -u covey -n 20 -o cat").out
        assert "coveyd.toml, line" in said
        assert "stat_dir" in said
        assert outsider.ssh("systemctl is-active covey", check=False).out.strip() == "failed"
    finally:
        outsider.ssh(f"cp /tmp/good.toml {file}; systemctl restart covey")


def test_damaged_state_is_refused_and_left_alone(outsider: Host) -> None:
    outsider.ssh(f"{COVEY} swarm init")
    listing = "find /var/lib/covey -type f | sort"
    identity = "/var/lib/covey/cluster/identity/identity.json"
    outsider.ssh(f"systemctl stop covey; cp {identity} /root/kept; truncate -s 100 {identity}")
    before = outsider.ssh(listing).out
    outsider.ssh("systemctl start covey", check=False)
    said = outsider.ssh("journalctl -u covey -n 20 -o cat").out
    assert identity in said
    assert "Nothing was deleted" in said
    assert outsider.ssh(listing).out == before
    outsider.ssh(f"cp /root/kept {identity}; systemctl reset-failed covey; systemctl start covey")
    wait_until(lambda: state(outsider) == "active", 20, "the repaired node to be what it was")


def test_two_clusters_are_told_apart_by_name(cluster: Cluster, outsider: Host) -> None:
    """The outsider is the manager of a cluster of its own, since the test before."""
    assert state(outsider) == "active"
    ids = [cluster.get("/info")["Swarm"]["Cluster"]["ID"], cluster.get("/info", on=outsider)["Swarm"]["Cluster"]["ID"]]
    assert "already part of a swarm" in refusal(
        outsider, f"{COVEY} swarm join --token {token(cluster)} {cluster.manager.address}:2377"
    )
    both = Cluster(cluster.lab, cluster.artifact, [*cluster.names, "outsider"], cluster.managers, cluster.registry)
    play = both.play("site", check=False)
    assert play.code != 0
    for word in (*ids, "outsider"):
        assert word in play.output
    assert not any(play.changed[name] for name in cluster.names)
    outsider.ssh(f"{COVEY} swarm leave --force")
    assert state(outsider) == "inactive"


def post(host: Host, path: str, body: object) -> tuple[int, str]:
    """Status and message of a call as no careful client would make it."""
    words = f"curl -s -o /tmp/answer -w '%{{http_code}}' --unix-socket {SOCKET} -X POST -d @- http://x{path}"
    status = int(host.ssh(words, stdin=json.dumps(body)).out)
    return status, json.loads(host.ssh("cat /tmp/answer").out).get("message", "")


def service(container: dict[str, object], name: str = "other") -> dict[str, object]:
    return {"Name": name, "TaskTemplate": {"ContainerSpec": container}}


def test_services(cluster: Cluster) -> None:
    manager, image = cluster.manager, cluster.image()
    create = f"{COVEY} service create --detach --replicas 0"
    cluster.docker("service", "create", "--detach", "--replicas", "0", "--name", "web", image)
    try:
        assert "service web already exists" in refusal(manager, f"{create} --name web {image}")
        assert "operator" in refusal(manager, f"{create} --constraint node=x {image}")
        assert "mode=host" in refusal(manager, f"{create} --publish 80:80 {image}")
        assert "ContainerSpec.ReadOnly" in refusal(manager, f"{create} --read-only {image}")

        status, message = post(manager, "/services/create", service({"Imagee": image}))
        assert (status, "TaskTemplate.ContainerSpec.Imagee" in message) == (400, True)
        overlay = service({"Image": image}) | {"Networks": [{"Target": "backend"}]}
        status, message = post(manager, "/services/create", overlay)
        assert (status, "Networks" in message) == (501, True)
        unknown = service({"Image": image, "Secrets": [{"SecretID": "nowhere", "SecretName": "key"}]})
        status, message = post(manager, "/services/create", unknown)
        assert (status, "key" in message) == (400, True)
        status, message = post(manager, "/services/web/update?version=1", service({"Image": image}, "web"))
        assert (status, "update out of sequence" in message) == (409, True)
        assert len(cluster.get("/services")) == 1
    finally:
        cluster.docker("service", "rm", "web")


def test_the_module_fails_with_the_tasks_own_words(cluster: Cluster) -> None:
    missing = cluster.image("covey/nothing")
    declared = [{"name": "bad", "image": missing, "wait_timeout": 15}]
    try:
        play = cluster.play("site", variables={"covey_services": declared}, check=False)
        assert play.code != 0
        assert "covey/nothing" in play.output
        assert "not found" in play.output or "manifest unknown" in play.output
        play = cluster.play("site", variables={"covey_services": [{"name": "bad", "imagee": "x"}]}, check=False)
        assert play.code != 0
        assert "imagee" in play.output
    finally:
        cluster.docker("service", "rm", "bad", check=False)
