# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host's agent says of its cluster.  Never in here: join tokens."""

from __future__ import annotations


def get_status(api):
    return api.get("/covey/v1/status")


def get_cluster(api):
    """The cluster object without its join tokens, so that no caller can show them by accident."""
    return {key: value for key, value in api.get("/swarm").items() if key != "JoinTokens"}


def facts(status):
    """The status in the words of the modules' results."""
    leader = status.get("Leader") or {}
    role = status.get("Role") or ""
    state = status.get("State") or ""
    return {
        "state": state,
        "cluster_id": status.get("ClusterID") or "",
        "node_id": status.get("NodeID") or "",
        "role": role,
        "leader": leader.get("Addr") or "",
        "control": state == "active" and role == "manager" and bool(leader),
        "error": status.get("Error") or "",
        "managers": status.get("Managers") or [],
        "raft": _raft(status.get("Raft")),
    }


def _raft(log):
    """How far a manager's log is; empty where there is none."""
    return {} if log is None else {"epoch": log["Epoch"], "term": log["Term"], "index": log["Index"]}
