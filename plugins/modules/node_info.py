#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show nodes, as the manager tells them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Show nodes of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Shows some nodes or all. Runs on a manager.
  - Objects are passed on as the manager gives them, in the shape of the Docker Engine API.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.info
options:
  name:
    description: Host names or ids of nodes. Left out, all are shown. One that is not there is no error.
    type: list
    elements: str
  self:
    description: Whether to show only the node that the module runs on.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: All nodes
  covey.swarm.node_info:
  register: all_nodes
  run_once: true

- name: Nobody is missing
  ansible.builtin.assert:
    that: all_nodes.nodes | map(attribute='Status.State') | unique == ['ready']
  run_once: true
"""

RETURN = r"""
nodes:
  description: The nodes that were asked for and are there.
  returned: success
  type: list
  elements: dict
exists:
  description: Whether all nodes that were asked for are there.
  returned: success
  type: bool
"""

from ansible_collections.covey.swarm.plugins.module_utils._module import run

OPTIONS = {"name": {"type": "list", "elements": "str"}, "self": {"type": "bool", "default": False}}


def act(module, api):
    nodes = api.get("/nodes") or []
    wanted = module.params["name"]
    if module.params["self"]:
        wanted = [api.get("/covey/v1/status")["NodeID"]]
    if wanted is None:
        return {"changed": False, "nodes": nodes, "exists": True}
    found = [node for node in nodes if _names(node) & set(wanted)]
    missing = [name for name in wanted if not any(name in _names(node) for node in found)]
    return {"changed": False, "nodes": found, "exists": not missing}


def _names(node):
    return set([node["ID"], node["Description"]["Hostname"]])


def main():
    run(act, OPTIONS, mutually_exclusive=[("name", "self")])


if __name__ == "__main__":
    main()
