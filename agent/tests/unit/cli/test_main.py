# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey status` in words, and what it says when nobody answers."""

from covey.cli.main import describe, main


def test_an_active_node_names_cluster_managers_and_leader():
    managers = [{"NodeID": "n1", "Addr": "10.0.0.1:2377"}, {"NodeID": "n2", "Addr": "10.0.0.2:2377"}]
    status = {
        "State": "active", "ClusterID": "c", "NodeID": "n1", "Role": "manager", "AdvertiseAddr": "10.0.0.1",
        "Managers": managers, "Leader": managers[1], "Error": "",
    }  # fmt: skip
    assert list(describe(status)) == [
        "state      active",
        "cluster    c",
        "node       n1 (manager)",
        "address    10.0.0.1",
        "manager    n1 10.0.0.1:2377",
        "manager    n2 10.0.0.2:2377 (leader)",
    ]


def test_a_node_in_no_cluster_says_just_that():
    assert list(describe({"State": "inactive"})) == ["state      inactive"]


def test_no_agent_is_exit_2_with_a_hint(tmp_path, capsys):
    assert main(["--socket", str(tmp_path / "none.sock"), "status"]) == 2
    assert "systemctl status covey" in capsys.readouterr().err
