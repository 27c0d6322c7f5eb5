# SPDX-License-Identifier: GPL-3.0-or-later
"""A stranger cannot join, read or call: each refusal beside the same call accepted with the right certificate."""

from __future__ import annotations

import socket
import time

import pytest

from covey.security import ca, keys
from covey_shows.callers import REFUSED, Credentials, call, speaks, stolen
from covey_shows.cluster import Cluster

pytestmark = pytest.mark.lab

CSR = keys.make_csr(keys.new_key()).decode()


@pytest.fixture(scope="module")
def manager(cluster: Cluster) -> Credentials:
    return stolen(cluster.host("one"))


@pytest.fixture(scope="module")
def worker(cluster: Cluster) -> Credentials:
    return stolen(cluster.host("two"))


@pytest.fixture(scope="module")
def nobody(manager: Credentials) -> Credentials:
    return Credentials(root=manager.root)


@pytest.fixture(scope="module")
def foreigner(cluster: Cluster, manager: Credentials) -> Credentials:
    """A manager of a cluster that claims the same id under another root."""
    cluster_id, node_id = cluster.get("/info")["Swarm"]["Cluster"]["ID"], cluster.nodes()["one"]["ID"]
    key, now = keys.new_key(), time.time()
    leaf = ca.sign(ca.create_root(now), keys.make_csr(key), node_id, "manager", cluster_id, now, 3600)
    return Credentials(leaf.decode(), key.reveal().decode(), manager.root)


def test_reading_needs_a_managers_certificate(cluster, manager, worker, nobody, foreigner):
    address = cluster.manager.address
    status, nodes = call(address, manager, "GET", "/v1/api/nodes")
    assert (status, len(nodes)) == (200, 3)
    for stranger in (worker, nobody):
        status, answer = call(address, stranger, "GET", "/v1/api/nodes")
        assert status == 403
        assert "certificate" in answer["message"]
    with pytest.raises(REFUSED):
        call(address, foreigner, "GET", "/v1/api/nodes")


def test_a_vote_needs_a_managers_certificate(cluster, manager, worker, nobody):
    address = cluster.manager.address
    assert call(address, manager, "GET", "/v1/raft/members")[0] == 200
    body = {"Addr": "10.86.0.9:2377", "RaftAddr": "10.86.0.9:2378"}
    for stranger in (worker, nobody):
        assert call(address, stranger, "GET", "/v1/raft/members")[0] == 403
        assert call(address, stranger, "POST", "/v1/raft/join", body)[0] == 403


def test_a_certificate_needs_a_certificate_or_a_token(cluster, worker, nobody):
    address = cluster.manager.address
    status, admission = call(address, worker, "POST", "/v1/renew", {"CSR": CSR})
    assert (status, admission["Role"]) == (200, "worker")
    assert call(address, nobody, "POST", "/v1/renew", {"CSR": CSR})[0] == 403
    token = cluster.docker("swarm", "join-token", "-q", "worker").strip()
    wrong = token[:-5] + ("aaaaa" if not token.endswith("aaaaa") else "bbbbb")
    status, answer = call(address, nobody, "POST", "/v1/join", {"CSR": CSR, "Token": wrong})
    assert status == 403
    assert "rotated" in answer["message"]
    other = keys.make_csr(keys.new_key()).decode()
    status, admission = call(address, nobody, "POST", "/v1/join", {"CSR": other, "Token": token, "Hostname": "guest"})
    assert status == 200
    cluster.docker("node", "rm", "--force", admission["NodeID"])
    guest = Credentials(admission["Certificate"], "", admission["RootCA"])
    assert guest.certificate
    assert len(cluster.nodes()) == 3


def test_the_root_is_there_for_all_and_is_what_the_token_names(cluster, nobody):
    status, root = call(cluster.manager.address, nobody, "GET", "/v1/root")
    token = cluster.docker("swarm", "join-token", "-q", "worker").strip()
    assert status == 200
    assert ca.root_digest(root.encode()) == token.split("-")[2]


def test_the_raft_port_speaks_to_no_worker_and_no_stranger(cluster, worker, nobody, foreigner):
    for stranger in (worker, nobody, foreigner):
        assert not speaks(cluster.manager.address, 2378, stranger)


@pytest.mark.parametrize("port", [2377, 2378])
def test_plain_tcp_gets_nothing(cluster, port):
    with socket.create_connection((cluster.manager.address, port), 5) as connection:
        connection.sendall(b"GET /v1/root HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(10)
        try:
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""
    assert b"CERTIFICATE" not in answer


def test_a_removed_node_is_out_at_once(cluster):
    token = cluster.docker("swarm", "join-token", "-q", "worker").strip()
    key = keys.new_key()
    joining = {"CSR": keys.make_csr(key).decode(), "Token": token, "Hostname": "guest"}
    address = cluster.manager.address
    _, admission = call(address, Credentials(root=stolen(cluster.host("one")).root), "POST", "/v1/join", joining)
    guest = Credentials(admission["Certificate"], key.reveal().decode(), admission["RootCA"])
    assert call(address, guest, "POST", "/v1/renew", {"CSR": joining["CSR"]})[0] == 200
    cluster.docker("node", "rm", "--force", admission["NodeID"])
    status, answer = call(address, guest, "POST", "/v1/renew", {"CSR": joining["CSR"]})
    assert status == 403
    assert "removed" in answer["message"]


def test_the_socket_is_for_root_and_its_group(cluster):
    mode = cluster.manager.ssh("stat -c '%a %U %G' /run/covey/covey.sock").out.strip()
    assert mode == "660 root covey"
    refused = cluster.manager.ssh(
        "setpriv --reuid nobody --regid nogroup --clear-groups "
        "curl -s --unix-socket /run/covey/covey.sock http://x/_ping; echo $?"
    ).out
    assert refused.strip() == "7"
