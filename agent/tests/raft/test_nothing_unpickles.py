# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is ever unpickled: not from the wire, not from the disk, by nobody's code."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import covey

AGENT = Path(covey.__file__).parents[1]
BANNED = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}


def test_the_whole_agent_lives_in_a_process_in_which_unpickling_is_a_bomb(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.raft.bombed", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(AGENT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"covey.daemon.main", "covey.store.raft.engine", "covey.manager.server"} <= set(told["imported"])
    assert told["written"] == 60
    assert told["blasts"] == ["pickle.loads", "marshal.loads", "pickle.find_class"]


@pytest.mark.parametrize("path", sorted((AGENT / "covey").rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_of_ours_can(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        module = getattr(node, "module", None) or ""
        assert not BANNED & {name.split(".")[0] for name in (*names, module)}, f"{path}:{node.lineno}"
