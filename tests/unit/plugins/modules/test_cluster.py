# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""covey.swarm.cluster and cluster_info against an agent that keeps to the contract."""

from __future__ import annotations

import os

from ansible_collections.covey.swarm.tests.unit.plugins.fake_agent import CLUSTER, NODE


def test_formed_then_unchanged(agent, run):
    first = run("cluster", advertise_addr="192.0.2.1")
    assert (first["changed"], first["cluster_id"], first["node_id"]) == (True, CLUSTER, NODE)
    assert agent.sent("/swarm/init") == {"AdvertiseAddr": "192.0.2.1"}
    assert not run("cluster")["changed"]


def test_three_steps_bring_a_host_in(agent, run):
    requested = run("cluster", state="requested")
    assert "CERTIFICATE REQUEST" in requested["csr"]
    admitted = run("cluster", state="admitted", csr=requested["csr"], role="worker", hostname="beta", labels={"a": 1})
    assert agent.sent("/covey/v1/join/admit") == {
        "CSR": requested["csr"],
        "Role": "worker",
        "Hostname": "beta",
        "Availability": "active",
        "Labels": {"a": "1"},
    }
    joined = run("cluster", state="joined", admission=admitted["admission"], advertise_addr="192.0.2.2")
    assert (joined["changed"], joined["cluster_id"], joined["node_id"]) == (True, CLUSTER, NODE)
    assert agent.sent("/covey/v1/join/complete") == {
        "Admission": admitted["admission"],
        "AdvertiseAddr": "192.0.2.2",
    }
    assert not run("cluster", state="joined", admission=admitted["admission"])["changed"]
    again = run("cluster", state="requested")
    assert not again["changed"]
    assert "csr" not in again


def test_check_mode_changes_nothing(agent, run):
    for options in (
        {"state": "present"},
        {"state": "requested"},
        {"state": "admitted"},
        {"state": "admitted", "csr": "PEM"},
        {"state": "joined"},
    ):
        assert run("cluster", check=True, **options)["changed"]
    agent.be_in_a_cluster()
    assert run("cluster", check=True, state="absent")["changed"]
    assert agent.writes() == []


def test_a_token_for_hosts_that_configure_themselves(agent, run):
    result = run("cluster", state="joined", join_token="SWMTKN-1-good", remote_addrs=["192.0.2.1:2377"])
    assert result["changed"]
    assert "SWMTKN" not in str(result)
    assert agent.sent("/swarm/join") == {"RemoteAddrs": ["192.0.2.1:2377"], "JoinToken": "SWMTKN-1-good"}


def test_a_wrong_token_is_refused_and_not_shown(run):
    result = run("cluster", state="joined", join_token="SWMTKN-1-bad", remote_addrs=["192.0.2.1:2377"])
    assert result["failed"]
    assert "this token is not of this cluster" in result["msg"]
    assert "SWMTKN" not in str(result)


def test_joining_needs_something_to_join_with(run):
    assert "needs admission" in run("cluster", state="joined")["msg"]


def test_a_host_of_another_cluster_is_left_alone(agent, run):
    agent.be_in_a_cluster("worker", cluster="another")
    for options in (
        {"cluster_id": CLUSTER},
        {"state": "joined", "admission": {"ClusterID": CLUSTER}},
        {"state": "requested", "cluster_id": CLUSTER},
    ):
        result = run("cluster", **options)
        assert result["failed"]
        assert "this host is in cluster another, not in " + CLUSTER in result["msg"]
    assert agent.writes() == []


def test_a_node_that_cannot_come_in_says_why(agent, run):
    agent.status.update(State="inactive", Error="port 2377 is taken")
    agent.be_in_a_cluster = lambda *args: agent.status.update(State="error")
    result = run("cluster", wait_timeout=0)
    assert result["failed"]
    assert "port 2377 is taken" in result["msg"]


def test_a_node_that_does_not_come_in_in_time(agent, run):
    agent.be_in_a_cluster = lambda *args: agent.status.update(State="pending", ClusterID=CLUSTER)
    result = run("cluster", wait_timeout=0)
    assert result["failed"]
    assert "it is pending" in result["msg"]


def test_managers_are_locked_with_a_key_that_is_not_shown(agent, run):
    first = run("cluster", autolock=True, unlock_key="SWMKEY-1-vault")
    assert first["changed"]
    assert agent.lock == "SWMKEY-1-vault"
    assert "SWMKEY" not in str(first)
    assert not run("cluster", autolock=True, unlock_key="SWMKEY-1-vault")["changed"]
    assert not run("cluster", autolock=True)["changed"]
    assert run("cluster", autolock=True, unlock_key="SWMKEY-1-newer")["changed"]
    assert run("cluster", check=True, autolock=False)["changed"]
    assert agent.lock == "SWMKEY-1-newer"
    assert run("cluster", autolock=False, unlock_key="SWMKEY-1-newer")["changed"]
    assert agent.sent("/covey/v1/cluster/lock") == {"AutoLock": False, "DryRun": False}


def test_what_is_not_said_of_the_lock_leaves_it(agent, run):
    agent.be_in_a_cluster()
    run("cluster")
    run("cluster", state="joined", admission={"ClusterID": CLUSTER}, autolock=True)
    assert agent.writes() == []


def test_a_locked_manager_is_unlocked_with_its_key(agent, run):
    agent.be_locked("SWMKEY-1-right")
    assert "unlock_key has to be" in run("cluster", state="unlocked")["msg"]
    wrong = run("cluster", state="unlocked", unlock_key="SWMKEY-1-wrong")
    assert wrong["failed"]
    assert "invalid key provided" in wrong["msg"]
    assert "SWMKEY" not in str(wrong)
    assert run("cluster", check=True, state="unlocked", unlock_key="SWMKEY-1-right")["changed"]
    assert agent.status["State"] == "locked"
    assert run("cluster", state="unlocked", unlock_key="SWMKEY-1-right")["changed"]
    assert not run("cluster", state="unlocked", unlock_key="SWMKEY-1-right")["changed"]


def test_a_locked_manager_cannot_change_the_lock(agent, run):
    agent.be_locked("SWMKEY-1-right")
    assert "unlock it first" in run("cluster", autolock=False)["msg"]
    assert agent.writes() == []


def test_leaving(agent, run):
    agent.be_in_a_cluster("worker")
    assert run("cluster", state="absent")["changed"]
    assert not run("cluster", state="absent")["changed"]


def test_a_manager_leaves_only_by_force(agent, run):
    agent.be_in_a_cluster("manager")
    refused = run("cluster", state="absent")
    assert refused["failed"]
    assert "participating as a manager" in refused["msg"]
    assert run("cluster", state="absent", force=True)["cluster_id"] == ""


def test_info_of_a_manager_has_no_tokens(agent, run):
    agent.be_in_a_cluster()
    result = run("cluster_info")
    assert (result["agent"], result["control"], result["cluster_id"]) == ("running", True, CLUSTER)
    assert result["cluster"]["Spec"] == {"Name": "default"}
    assert result["raft"] == {"epoch": 0, "term": 3, "index": 42}
    assert "SWMTKN" not in str(result)


def test_info_of_a_worker_and_of_nobody(agent, run):
    assert run("cluster_info")["state"] == "inactive"
    agent.be_in_a_cluster("worker")
    result = run("cluster_info")
    assert (result["control"], result["role"], result["raft"]) == (False, "worker", {})
    assert "cluster" not in result


def test_info_where_no_agent_answers(run, tmp_path):
    options = {"socket": str(tmp_path / "none.sock"), "state_dir": str(tmp_path / "state")}
    assert run("cluster_info", **options)["agent"] == "absent"
    os.makedirs(str(tmp_path / "state" / "cluster"))
    silent = run("cluster_info", **options)
    assert (silent["agent"], silent["cluster_id"], silent["failed"]) == ("silent", "", False)
    assert "no Covey agent" in silent["error"]


def test_info_where_the_agent_is_in_trouble(agent, run):
    agent.refusals["/covey/v1/status"] = (500, "the disk is full")
    result = run("cluster_info")
    assert result["agent"] == "silent"
    assert "the disk is full" in result["error"]
