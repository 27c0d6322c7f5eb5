# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of modules share: an agent in this process behind a real socket, and modules run as Ansible runs them."""

from __future__ import annotations

import contextlib
import importlib
import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.covey.swarm.tests.unit.plugins.fake_agent import FakeAgent


@pytest.fixture(name="agent")
def agent_fixture(tmp_path):
    with FakeAgent(str(tmp_path / "covey.sock")) as agent:
        yield agent


@pytest.fixture(name="run")
def run_fixture(agent, capsys):
    """`run(module, check=False, **options)`: the module's result; `failed` is in it as Ansible would have it."""

    def run(which, /, check=False, diff=False, **options):
        module = importlib.import_module("ansible_collections.covey.swarm.plugins.modules." + which)
        options.setdefault("socket", agent.path)
        options.update(_ansible_check_mode=check, _ansible_diff=diff)
        with patch_module_args(options), contextlib.suppress(SystemExit):
            module.main()
        return dict({"failed": False}, **json.loads(capsys.readouterr().out))

    return run
