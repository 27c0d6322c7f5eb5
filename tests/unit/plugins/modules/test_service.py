# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""covey.swarm.service and service_info against an agent that keeps to the contract."""

from __future__ import annotations

import pytest

DONE = {"Converged": True, "Running": 1, "Desired": 1, "UpdateState": "", "Failures": []}
FAILING = {
    "Converged": False,
    "Running": 1,
    "Desired": 3,
    "UpdateState": "",
    "Failures": [
        {"TaskID": "t", "Slot": 2, "NodeID": "n", "Hostname": "beta", "State": "rejected", "Error": "No such image: web:1"},
        {"TaskID": "u", "Slot": 3, "NodeID": "", "Hostname": "", "State": "pending", "Error": "no suitable node"},
    ],
}


@pytest.fixture(autouse=True)
def converged(agent):
    agent.be_in_a_cluster()
    agent.convergence = [DONE]


def test_created_then_unchanged(agent, run):
    first = run("service", name="web", image="web:1")
    assert (first["changed"], first["action"]) == (True, "create")
    assert first["service"]["ID"] == "id-of-web"
    assert first["convergence"]["Converged"]
    second = run("service", name="web", image="web:1")
    assert (second["changed"], second["action"], second["changes"]) == (False, "none", [])


def test_updated(run):
    run("service", name="web", image="web:1")
    result = run("service", name="web", image="web:2")
    assert (result["action"], result["changes"]) == ("update", ["TaskTemplate"])


def test_check_mode_changes_nothing_and_predicts_the_same(agent, run):
    predicted = run("service", check=True, diff=True, name="web", image="web:1")
    assert agent.writes() == []
    done = run("service", diff=True, name="web", image="web:1")
    assert {key: predicted[key] for key in ("changed", "action", "changes", "diff")} == {
        key: done[key] for key in ("changed", "action", "changes", "diff")
    }
    assert done["diff"]["before"] == {}
    assert done["diff"]["after"]["Name"] == "web"


def test_waits_until_it_runs(agent, run):
    agent.convergence = [dict(FAILING, Failures=[]), DONE]
    assert run("service", name="web", image="web:1")["convergence"] == DONE
    asked = [query for method, path, body, query in agent.calls if path.endswith("/convergence")]
    assert len(asked) == 2
    assert asked[0] == {"version": "7", "wait": "20"}


def test_what_does_not_run_fails_with_the_tasks_own_errors(agent, run):
    agent.convergence = [FAILING]
    result = run("service", name="web", image="web:1", wait_timeout=0)
    assert result["failed"]
    assert result["changed"]
    assert "1 of 3 tasks run" in result["msg"]
    assert "task 2 on beta is rejected: No such image: web:1" in result["msg"]
    assert "task 3 on no node yet is pending: no suitable node" in result["msg"]
    assert result["failures"] == FAILING["Failures"]


def test_an_unchanged_service_that_does_not_run_fails_too(agent, run):
    run("service", name="web", image="web:1")
    agent.convergence = [FAILING]
    result = run("service", name="web", image="web:1", wait_timeout=0)
    assert (result["failed"], result["changed"]) == (True, False)


def test_a_paused_update_is_not_waited_for(agent, run):
    agent.convergence = [dict(FAILING, UpdateState="paused")]
    result = run("service", name="web", image="web:1", wait_timeout=1000)
    assert result["failed"]
    assert "its update was paused" in result["msg"]


def test_no_waiting(agent, run):
    agent.convergence = [FAILING]
    assert not run("service", name="web", image="web:1", wait=False)["failed"]


def test_removed_then_unchanged(agent, run):
    run("service", name="web", image="web:1")
    agent.tasks = [{"ID": "t", "ServiceID": "another", "Status": {"State": "running"}}]
    assert run("service", name="web", state="absent")["action"] == "remove"
    assert agent.sent("/covey/v1/services/declare")["Spec"] == {"Name": "web"}
    assert not run("service", name="web", state="absent")["changed"]


def test_removal_waits_for_the_containers(agent, run):
    run("service", name="web", image="web:1")
    agent.tasks = [{"ID": "t", "ServiceID": "id-of-web", "Status": {"State": "running"}}]
    result = run("service", name="web", state="absent", wait_timeout=0)
    assert result["failed"]
    assert "some of its containers still have to go" in result["msg"]


def test_force_update_is_passed_on(agent, run):
    run("service", name="web", image="web:1")
    assert run("service", name="web", image="web:1", force_update=True)["changed"]
    assert agent.sent("/covey/v1/services/declare")["ForceUpdate"] is True


def test_the_agents_refusal_is_the_message(agent, run):
    agent.refusals["/covey/v1/services/declare"] = (400, "TaskTemplate.Placement.Constraints[0]: 'x' has no operator")
    result = run("service", name="web", image="web:1")
    assert result["failed"]
    assert "Constraints[0]: 'x' has no operator" in result["msg"]
    assert result["status"] == 400


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "web"}, "image"),
        ({"name": "web", "image": "a", "networks": []}, "networks"),
        ({"name": "web", "image": "a", "secrets": [{"secret_name": "x", "mode": "rw"}]}, "secrets[0].mode: 'rw' is not a mode"),
        ({"name": "web", "image": "a", "publish": [{"target_port": 80}]}, "mode"),
        ({"name": "web", "image": "a", "stop_grace_period": "soon"}, "stop_grace_period: 'soon' is not a duration"),
    ],
)
def test_bad_options(agent, run, options, said):
    result = run("service", **options)
    assert result["failed"]
    assert said in result["msg"]
    assert agent.writes() == []


def test_no_agent(run, tmp_path):
    nowhere = str(tmp_path / "none.sock")
    assert "no Covey agent" in run("service", name="web", image="web:1", socket=nowhere)["msg"]
    predicted = run("service", check=True, name="web", image="web:1", socket=nowhere)
    assert predicted["changed"]
    assert "the agent has to be installed first" in str(predicted["warnings"])


def test_info(agent, run):
    run("service", name="web", image="web:1")
    agent.tasks = [{"ID": "t", "ServiceID": "id-of-web"}, {"ID": "u", "ServiceID": "another"}]
    all_of_them = run("service_info")
    assert [service["ID"] for service in all_of_them["services"]] == ["id-of-web"]
    one = run("service_info", name="web", tasks=True)
    assert one["exists"]
    assert one["service"]["ID"] == "id-of-web"
    assert [task["ID"] for task in one["tasks"]] == ["t"]
    none = run("service_info", name="nothing")
    assert (none["failed"], none["exists"], none["services"]) == (False, False, [])
