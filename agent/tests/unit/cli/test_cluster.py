# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey cluster`: files that are there whole or not at all, and passphrases from where nobody can see them."""

import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import view

from covey.cli import main as room
from covey.model.objects import Cluster
from covey.model.secret import Secret
from covey.store import backup

PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_SCRYPT", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*words: str, stdin: str = PASSPHRASE + "\n") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        return room.main(["--socket", str(tmp_path / "covey.sock"), "cluster", *words])

    return run


def sealed() -> bytes:
    state = view(Cluster(id="c1"), index=42)
    return b"".join(backup.write(state, "2026-11-26T03:12:00Z", "0.1.0", Secret(PASSPHRASE.encode()), os.urandom))


def whole(data: bytes) -> Callable[[bytes], tuple[int, bytes, int]]:
    return lambda _: (200, data, len(data))


def backs_up(agent: Any, answer: Callable[[bytes], tuple[int, bytes, int]]) -> None:
    agent.answers = {"/covey/v1/cluster/index": whole(b'{"Index": 42}'), "/covey/v1/cluster/backup": answer}


def test_a_backup_is_written_for_its_owner_alone(agent, run, tmp_path, capsys):
    data = sealed()
    backs_up(agent, whole(data))
    file = tmp_path / "cluster.backup"
    assert run("backup", str(file), "--passphrase-file", "-") == 0
    assert file.read_bytes() == data
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(agent.asked[1][1]) == {"Passphrase": PASSPHRASE, "Index": 42}
    assert "cluster    c1\nindex      42\ntaken      2026-11-26T03:12:00Z\n" in capsys.readouterr().out


def test_local_asks_nobody_how_far_the_state_is(agent, run, tmp_path):
    backs_up(agent, whole(sealed()))
    assert run("backup", str(tmp_path / "b"), "--local", "--passphrase-file", "-") == 0
    assert [path for path, _ in agent.asked] == ["/covey/v1/cluster/backup"]


def test_the_passphrase_is_the_first_line_of_a_file(agent, run, tmp_path):
    backs_up(agent, whole(sealed()))
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\r\nnot this\n")
    assert run("backup", str(tmp_path / "b"), "--passphrase-file", str(secret)) == 0
    assert json.loads(agent.asked[1][1])["Passphrase"] == PASSPHRASE


def test_what_is_there_stays_unless_forced(agent, run, tmp_path, capsys):
    backs_up(agent, whole(sealed()))
    file = tmp_path / "b"
    file.write_text("precious")
    assert run("backup", str(file), "--passphrase-file", "-") == 1
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert run("backup", str(file), "--force", "--passphrase-file", "-") == 0
    assert file.read_bytes().startswith(b"covey backup")


@pytest.mark.parametrize(("raft", "hinted"), [({"Term": 1, "Index": 2, "Epoch": 0}, True), (None, False)])
def test_a_manager_without_a_leader_is_told_of_local(agent, run, tmp_path, capsys, raft, hinted):
    refusal = b'{"message": "no leader."}'
    status = json.dumps({"Leader": None, "Raft": raft}).encode()
    agent.answers = {
        "/covey/v1/cluster/index": lambda _: (503, refusal, len(refusal)),
        "/covey/v1/status": whole(status),
    }
    assert run("backup", str(tmp_path / "b"), "--passphrase-file", "-") == 1
    said = capsys.readouterr().err
    assert said.startswith("covey: no leader.")
    assert ("--local" in said) is hinted


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()} - {"covey.sock"}


def test_an_answer_that_breaks_off_leaves_nothing(agent, run, tmp_path, capsys):
    backs_up(agent, lambda _: (200, sealed()[:-5], len(sealed())))
    assert run("backup", str(tmp_path / "b"), "--passphrase-file", "-") == 2
    assert left(tmp_path) == set()


def test_the_agents_refusal_is_told_in_its_words(agent, run, tmp_path, capsys):
    refusal = b'{"message": "no majority"}'
    backs_up(agent, lambda _: (503, refusal, len(refusal)))
    assert run("backup", str(tmp_path / "b"), "--passphrase-file", "-") == 1
    assert capsys.readouterr().err == "covey: no majority\n"
    assert left(tmp_path) == set()


def test_nobody_to_ask_for_a_passphrase(run, tmp_path, capsys):
    assert run("backup", str(tmp_path / "b")) == 1
    assert "--passphrase-file" in capsys.readouterr().err


def test_a_directory_that_is_not_there_is_named(agent, run, tmp_path, capsys):
    backs_up(agent, whole(sealed()))
    assert run("backup", str(tmp_path / "nowhere" / "b"), "--passphrase-file", "-") == 1
    assert "nowhere/b cannot be written: No such file" in capsys.readouterr().err


def test_inspect_says_what_a_file_is(run, tmp_path, capsys):
    file = tmp_path / "b"
    file.write_bytes(sealed())
    assert run("inspect", str(file)) == 0
    assert "cluster    c1" in capsys.readouterr().out
    file.write_bytes(b"something else")
    assert run("inspect", str(file)) == 1
    assert "no backup of Covey" in capsys.readouterr().err


def test_a_backup_can_be_opened_without_being_restored(run, tmp_path, capsys):
    path = tmp_path / "b"
    path.write_bytes(sealed())
    assert run("inspect", str(path), "--verify", "--passphrase-file", "-") == 0
    assert capsys.readouterr().out.endswith("opens      0 nodes, 0 services, 0 secrets, 0 configs\n")


@pytest.mark.parametrize(
    ("data", "stdin", "reason"),
    [
        (sealed, "another passphrase\n", "not the one that this backup was made with"),
        (lambda: sealed()[:-1], PASSPHRASE + "\n", "truncated or damaged"),
    ],
)
def test_a_backup_that_would_not_open_is_found_out(run, tmp_path, capsys, data, stdin, reason):
    path = tmp_path / "b"
    path.write_bytes(data())
    assert run("inspect", str(path), "--verify", "--passphrase-file", "-", stdin=stdin) == 1
    said = capsys.readouterr()
    assert "opens" not in said.out
    assert reason in said.err
    assert PASSPHRASE not in said.err


def test_a_passphrase_that_nothing_is_opened_with_is_a_mistake(run, tmp_path, capsys):
    assert run("inspect", str(tmp_path / "b"), "--passphrase-file", "-") == 1
    assert "--verify" in capsys.readouterr().err


def answers_node(agent: Any, path: str) -> None:
    agent.answers = {path: whole(b'{"NodeID": "n9"}'), "/covey/v1/status": whole(b'{"ClusterID": "c1"}')}


def test_restore_hands_the_file_over_as_it_is(agent, run, tmp_path, capsys):
    answers_node(agent, "/covey/v1/cluster/restore")
    file = tmp_path / "b"
    file.write_bytes(sealed())
    assert run("restore", str(file), "--passphrase-file", "-", "--advertise-addr", "10.0.0.9") == 0
    head, _, content = agent.asked[-1][1].partition(b"\n")
    assert json.loads(head) == {"Passphrase": PASSPHRASE, "AdvertiseAddr": "10.0.0.9"}
    assert content == file.read_bytes()
    assert "node n9" in capsys.readouterr().out


def test_what_is_no_backup_is_not_handed_over(agent, run, tmp_path):
    file = tmp_path / "b"
    file.write_bytes(b"something else")
    assert run("restore", str(file), "--passphrase-file", "-") == 1
    assert agent.asked == []


def test_recover_needs_a_person_or_a_yes(agent, run, capsys):
    answers_node(agent, "/covey/v1/cluster/recover")
    assert run("recover") == 1
    assert "--yes" in capsys.readouterr().err
    assert [path for path, _ in agent.asked] == ["/covey/v1/status"]
    assert run("recover", "--yes", "--advertise-addr", "10.0.0.9") == 0
    assert json.loads(agent.asked[-1][1]) == {"AdvertiseAddr": "10.0.0.9"}


@pytest.mark.parametrize(("answer", "code", "asked"), [("yes\n", 0, 2), ("y\n", 1, 1), ("\n", 1, 1)])
def test_recover_asks_a_person(agent, tmp_path, monkeypatch, answer, code, asked):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers_node(agent, "/covey/v1/cluster/recover")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert room.main(["--socket", str(tmp_path / "covey.sock"), "cluster", "recover"]) == code
    assert len(agent.asked) == asked


@pytest.mark.parametrize(("state", "code"), [("active", 0), ("pending", 1)])
def test_find_says_whether_a_manager_took_the_node_up(agent, run, state, code, capsys):
    agent.answers = {"/covey/v1/cluster/find": whole(json.dumps({"State": state}).encode())}
    assert run("find", "10.0.0.9", "10.0.0.8:2377") == code
    assert json.loads(agent.asked[-1][1]) == {"Addrs": ["10.0.0.9", "10.0.0.8:2377"]}
    assert capsys.readouterr().out == f"state      {state}\n"
