#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show what a host knows of its cluster; it answers whatever state the host is in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Show which Covey cluster a host belongs to
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Asks the host's agent which cluster it belongs to, and a manager what that cluster is set to.
  - It answers on any host, also where no agent is installed.
  - Join tokens are never among what it returns.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.info
options:
  state_dir:
    description: Where the agent keeps its state. Where the agent does not answer, this tells whether it has ever been in a cluster.
    type: path
    default: /var/lib/covey
"""

EXAMPLES = r"""
- name: Which cluster is this?
  covey.swarm.cluster_info:
  register: cluster

- name: Show it
  ansible.builtin.debug:
    msg: "{{ cluster.cluster_id | default('none', true) }} as {{ cluster.role }}, led by {{ cluster.leader }}"
"""

RETURN = r"""
agent:
  description:
    - V(running) if the agent answered.
    - V(absent) if there is none, and no state of one.
    - V(silent) if none answered, but the host is in a cluster, or nobody can tell.
  returned: success
  type: str
state:
  description: V(inactive), V(pending), V(active), V(locked) or V(error), empty where no agent answered.
  returned: success
  type: str
cluster_id:
  description: Id of the cluster; empty where the host is in none.
  returned: success
  type: str
node_id:
  description: Id of this node; empty where the host is in no cluster.
  returned: success
  type: str
role:
  description: V(manager) or V(worker), empty where the host is in no cluster.
  returned: success
  type: str
leader:
  description: Address of the leading manager; empty where none is known.
  returned: success
  type: str
control:
  description: Whether this host takes calls that concern the whole cluster, since it is a manager and knows a leader.
  returned: success
  type: bool
error:
  description: What is wrong, in the agent's words.
  returned: success
  type: str
managers:
  description: The managers this node knows.
  returned: success
  type: list
  elements: dict
raft:
  description: How far this manager's log is, for choosing the one to recover from. Empty on other hosts.
  returned: success
  type: dict
  contains:
    epoch:
      description: When the cluster was last recovered or restored, in unix seconds; 0 if never.
      type: int
    term:
      description: Term of the log's newest entry.
      type: int
    index:
      description: Index of the log's newest entry.
      type: int
cluster:
  description: The cluster object, without its join tokens.
  returned: where RV(control) is true
  type: dict
"""

import os

from ansible_collections.covey.swarm.plugins.module_utils._api import AgentMissing, ApiError
from ansible_collections.covey.swarm.plugins.module_utils._cluster import facts, get_cluster, get_status
from ansible_collections.covey.swarm.plugins.module_utils._module import run

OPTIONS = {"state_dir": {"type": "path", "default": "/var/lib/covey"}}


def act(module, api):
    try:
        result = dict(facts(get_status(api)), agent="running", changed=False)
    except AgentMissing as missing:
        agent = "silent" if _in_a_cluster(module.params["state_dir"]) else "absent"
        return dict(facts({}), agent=agent, changed=False, error=missing.msg)
    except ApiError as broken:
        return dict(facts({}), agent="silent", changed=False, error=broken.msg)
    if result["control"]:
        result["cluster"] = get_cluster(api)
    return result


def _in_a_cluster(directory):
    """Whether the agent's state says so; yes where it cannot be read, since the careful answer is the right one."""
    try:
        os.stat(os.path.join(directory, "cluster"))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def main():
    run(act, OPTIONS)


if __name__ == "__main__":
    main()
