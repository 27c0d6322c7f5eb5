# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls over the socket, and what a person reads when one fails."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.covey.swarm.plugins.module_utils._api import AgentMissing, Api, ApiError


def test_answers_are_decoded(agent):
    assert Api(agent.path, 5).get("/covey/v1/status")["State"] == "inactive"
    assert Api(agent.path, 5).post("/swarm/leave", query={"force": "true"}) is None
    assert agent.calls[-1] == ("POST", "/swarm/leave", None, {"force": "true"})


def test_a_refusal_is_in_the_agents_words(agent):
    agent.refusals["/services"] = (503, "This node is not a swarm manager; managers are 192.0.2.1:2377")
    with pytest.raises(ApiError) as refused:
        Api(agent.path, 5).get("/services")
    assert refused.value.status == 503
    assert "managers are 192.0.2.1:2377" in refused.value.msg
    assert "GET /services" in refused.value.msg


def test_no_agent_names_the_socket_and_what_to_do(tmp_path):
    path = str(tmp_path / "none.sock")
    with pytest.raises(AgentMissing) as missing:
        Api(path, 5).get("/covey/v1/status")
    assert path in missing.value.msg
    assert socket.gethostname() in missing.value.msg
    assert "systemctl status covey" in missing.value.msg


def test_a_socket_nobody_listens_on(tmp_path):
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(AgentMissing) as missing:
        Api(path, 5).get("/covey/v1/status")
    assert "nothing listens" in missing.value.msg


def test_an_agent_that_hangs_up(tmp_path):
    path = str(tmp_path / "rude.sock")
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(path)
        rude.listen(1)
        with pytest.raises(ApiError) as broken:
            Api(path, 0.05).get("/covey/v1/status")
    assert "did not answer GET /covey/v1/status" in broken.value.msg
