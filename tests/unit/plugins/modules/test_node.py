# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""covey.swarm.node and node_info against an agent that keeps to the contract."""

from __future__ import annotations

import pytest
from ansible_collections.covey.swarm.tests.unit.plugins.fake_agent import NODE


@pytest.fixture(autouse=True)
def beta(agent):
    agent.be_in_a_cluster()
    agent.add_node("b", "beta", Labels={"old": "1"})


def spec(agent):
    return agent.nodes["b"]["Spec"]


def test_labels_are_merged_or_replaced(agent, run):
    first = run("node", hostname="beta", labels={"disk": "ssd", "rack": 12})
    assert (first["changed"], first["changes"]) == (True, ["Labels"])
    assert spec(agent)["Labels"] == {"old": "1", "disk": "ssd", "rack": "12"}
    assert not run("node", hostname="b", labels={"disk": "ssd"})["changed"]
    run("node", hostname="beta", labels_to_remove=["old"])
    assert "old" not in spec(agent)["Labels"]
    run("node", hostname="beta", labels={"a": "b"}, labels_state="replace")
    assert spec(agent)["Labels"] == {"a": "b"}


def test_what_is_not_given_is_not_sent(agent, run):
    run("node", hostname="beta", availability="pause")
    assert agent.sent("/covey/v1/nodes/beta/declare") == {"Availability": "pause", "DryRun": False}


def test_check_mode_predicts_and_changes_nothing(agent, run):
    predicted = run("node", check=True, diff=True, name="beta", availability="drain")
    assert predicted["changed"]
    assert predicted["diff"]["before"]["Availability"] == "active"
    assert predicted["diff"]["after"]["Availability"] == "drain"
    assert run("node", check=True, hostname="beta", state="absent")["changed"]
    assert agent.writes() == []


def test_a_drained_node_is_waited_for(agent, run):
    agent.tasks = [
        {"ID": "t1", "NodeID": "b", "Status": {"State": "running"}},
        {"ID": "t2", "NodeID": "b", "Status": {"State": "shutdown"}},
        {"ID": "t3", "NodeID": NODE, "Status": {"State": "running"}},
    ]
    result = run("node", hostname="beta", availability="drain", wait_timeout=0)
    assert result["failed"]
    assert "still runs tasks after 0 s: t1" in result["msg"]
    agent.tasks = []
    assert not run("node", hostname="beta", availability="drain")["failed"]


def test_a_new_role_is_waited_for(agent, run):
    assert "still not a manager" in run("node", hostname="beta", role="manager", wait_timeout=0)["msg"]
    agent.nodes["b"]["ManagerStatus"] = {"Reachability": "reachable"}
    assert not run("node", hostname="beta", role="manager")["failed"]
    assert "still not a worker" in run("node", hostname="beta", role="worker", wait_timeout=0)["msg"]
    assert not run("node", hostname="beta", role="worker", wait=False)["failed"]


def test_removal_demotes_and_drains_first(agent, run):
    assert run("node", hostname="beta", state="absent")["action"] == "remove"
    declared = [body for method, path, body, query in agent.calls if path.endswith("/declare")]
    assert declared[0] == {"Role": "worker", "Availability": "drain", "DryRun": False}
    assert agent.nodes == {}
    assert not run("node", hostname="beta", state="absent")["changed"]


def test_removal_of_a_node_that_is_gone_for_good(agent, run):
    agent.tasks = [{"ID": "t1", "NodeID": "b", "Status": {"State": "running"}}]
    assert run("node", hostname="beta", state="absent", force=True)["changed"]
    assert agent.nodes == {}


def test_unknown_node(run):
    result = run("node", hostname="nobody", availability="drain")
    assert result["failed"]
    assert "node nobody not found" in result["msg"]


def test_info(agent, run):
    agent.add_node(NODE, "alpha")
    everybody = run("node_info")
    assert (len(everybody["nodes"]), everybody["exists"]) == (2, True)
    some = run("node_info", name=["beta", "nobody"])
    assert ([node["ID"] for node in some["nodes"]], some["exists"]) == (["b"], False)
    me = run("node_info", self=True)
    assert [node["ID"] for node in me["nodes"]] == [NODE]
