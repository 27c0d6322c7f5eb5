# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey secret` and `covey config`: values from files and pipes, and the calls they become."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from covey.cli import main as room

SHOWN = {"ID": "k1", "Version": {"Index": 7}, "Spec": {"Name": "key", "Labels": {"a": "b"}}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*words: str, stdin: bytes = b"") -> int:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return room.main(["--socket", str(tmp_path / "covey.sock"), *words])

    return run


def says(value: Any, status: int = 200) -> Callable[[bytes], tuple[int, bytes, int]]:
    data = json.dumps(value).encode()
    return lambda _: (status, data, len(data))


@pytest.mark.parametrize("kind", ["secret", "config"])
def test_update_sends_the_value_and_keeps_the_rest(agent, run, tmp_path, capsys, kind):
    update = f"/{kind}s/key/update?version=7"
    agent.answers = {f"/{kind}s/key": says(SHOWN), update: says({"ID": "k2"})}
    source = tmp_path / "value"
    source.write_bytes(b"\x00new")
    assert run(kind, "update", "key", str(source)) == 0
    sent = json.loads(agent.asked[-1][1])
    assert agent.asked[-1][0] == update
    assert sent == {"Name": "key", "Labels": {"a": "b"}, "Data": base64.b64encode(b"\x00new").decode()}
    assert capsys.readouterr().out == "updated  key k2\n"


def test_update_reads_a_pipe_and_says_when_nothing_changed(agent, run, capsys):
    agent.answers = {"/secrets/key": says(SHOWN), "/secrets/key/update?version=7": says({"ID": "k1"})}
    assert run("secret", "update", "key", "-", stdin=b"piped\n") == 0
    assert base64.b64decode(json.loads(agent.asked[-1][1])["Data"]) == b"piped\n"
    assert capsys.readouterr().out == "unchanged  key k1\n"


def test_refusals_are_told(agent, run, tmp_path, capsys):
    agent.answers = {"/secrets/key": says(SHOWN), "/secrets/nope": says({"message": "secret nope not found"}, 404)}
    assert run("secret", "update", "key", str(tmp_path / "nowhere")) == 1
    assert "nowhere cannot be read: No such file" in capsys.readouterr().err
    assert run("secret", "update", "nope", "-") == 1
    assert capsys.readouterr().err == "covey: secret nope not found\n"


def test_values_and_rollback(agent, run, capsys):
    kept = [{"Number": 2, "CreatedAt": "now", "ID": "k2", "Current": True}, {**SHOWN, "Number": 1, "CreatedAt": "then"}]
    kept[1]["Current"] = False
    agent.answers = {
        "/covey/v1/secrets/key/values": says(kept),
        "/covey/v1/secrets/key/rollback": says({"ID": "k3"}),
        "/covey/v1/secrets/key/rollback?number=1": says({"ID": "k4"}),
    }
    assert run("secret", "values", "key") == 0
    assert capsys.readouterr().out == "   2  now  k2  current\n   1  then  k1\n"
    assert run("secret", "rollback", "key") == 0
    assert run("secret", "rollback", "key", "--number", "1") == 0
    assert capsys.readouterr().out == "updated  key k3\nupdated  key k4\n"


def test_prune(agent, run, capsys):
    removed = says({"Removed": ["a", "b"]})
    agent.answers = {
        "/covey/v1/configs/prune?filters=%7B%7D": removed,
        "/covey/v1/configs/prune?filters=%7B%22label%22%3A%20%5B%22x%3Dy%22%5D%7D&dry-run=true": removed,
    }
    assert run("config", "prune") == 0
    assert run("config", "prune", "--dry-run", "--label", "x=y") == 0
    assert capsys.readouterr().out == "a\nb\n" * 2
    assert unquote(agent.asked[-1][0]).endswith('filters={"label": ["x=y"]}&dry-run=true')
