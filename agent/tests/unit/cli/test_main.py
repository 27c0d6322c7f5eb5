# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey status` in words, and what it says when nobody answers."""

import socket
import threading

from covey.cli.main import describe, main


def test_an_active_node_names_cluster_managers_and_leader():
    managers = [{"NodeID": "n1", "Addr": "10.0.0.1:2377"}, {"NodeID": "n2", "Addr": "10.0.0.2:2377"}]
    status = {
        "State": "active", "Version": "0.1.0",
        "ClusterID": "c", "NodeID": "n1", "Role": "manager", "AdvertiseAddr": "10.0.0.1",
        "Managers": managers, "Leader": managers[1], "Error": "",
    }  # fmt: skip
    assert list(describe(status)) == [
        "state      active",
        "release    0.1.0",
        "cluster    c",
        "node       n1 (manager)",
        "address    10.0.0.1",
        "manager    n1 10.0.0.1:2377",
        "manager    n2 10.0.0.2:2377 (leader)",
    ]


def test_a_manager_says_what_is_needed_to_choose_the_one_to_recover_from():
    status = {
        "State": "pending", "ClusterID": "c", "NodeID": "n1", "Role": "manager", "AdvertiseAddr": "10.0.0.1",
        "Leader": None, "Raft": {"Term": 7, "Index": 42, "Epoch": 1_795_000_000}, "Error": "",
    }  # fmt: skip
    assert list(describe(status))[-3:] == [
        "leader     none",
        "recovered  2026-11-18T11:06:40.000000Z",
        "log        term 7, index 42",
    ]
    status["Raft"]["Epoch"] = 0
    assert not any(line.startswith("recovered") for line in describe(status))


def test_a_node_in_no_cluster_says_just_that():
    assert list(describe({"State": "inactive"})) == ["state      inactive"]


def test_no_agent_is_exit_2_with_a_hint(tmp_path, capsys):
    assert main(["--socket", str(tmp_path / "none.sock"), "status"]) == 2
    assert "systemctl status covey" in capsys.readouterr().err


class Agent:
    """An agent behind a socket that gives one answer."""

    def __init__(self, path, answer: bytes, status: int = 200) -> None:
        self.path, self.answer, self.status, self.request = str(path), answer, status, b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            self.request = connection.recv(65536)
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.answer)}\r\n\r\n"
            connection.sendall(head.encode() + self.answer)

    def ended(self) -> bytes:
        self._thread.join()
        return self.request


def test_renew_asks_the_agent_and_says_until_when(tmp_path, capsys):
    agent = Agent(tmp_path / "s", b'{"Certificate": {"NotBefore": "a", "NotAfter": "2027-04-15T08:00:00Z"}}')
    assert main(["--socket", agent.path, "renew"]) == 0
    assert agent.ended().startswith(b"POST /covey/v1/renew HTTP/1.1")
    assert capsys.readouterr().out == "certified  until 2027-04-15T08:00:00Z\n"


def test_a_renewal_that_was_refused_is_exit_1_with_the_reason(tmp_path, capsys):
    agent = Agent(tmp_path / "s", b'{"message": "node n1 is not in this cluster: it was removed"}', 403)
    assert main(["--socket", agent.path, "renew"]) == 1
    agent.ended()
    assert "it was removed" in capsys.readouterr().err
