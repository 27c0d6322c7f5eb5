#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare what a node is; what differs the manager decides, what has to be waited for is here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Declare a node of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Labels a node, drains it, changes its role, or removes it from the cluster. Runs on a manager.
  - What is not given stays as it is.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.changes
options:
  hostname:
    description: Host name or id of the node.
    type: str
    required: true
    aliases: [name]
  state:
    description:
      - V(absent) removes the node from the cluster. First it is demoted and drained, and its containers run elsewhere.
      - The host's own agent then leaves with M(covey.swarm.cluster) and O(covey.swarm.cluster#module:state=absent).
    type: str
    choices: [present, absent]
    default: present
  labels:
    description: Labels of the node.
    type: dict
  labels_state:
    description: V(merge) adds O(labels) to those that are there, V(replace) leaves no others.
    type: str
    choices: [merge, replace]
    default: merge
  labels_to_remove:
    description: Labels that go, with O(labels_state=merge).
    type: list
    elements: str
  availability:
    description: V(drain) moves its containers elsewhere, V(pause) gives it no new ones.
    type: str
    choices: [active, pause, drain]
  role:
    description: What the node shall be.
    type: str
    choices: [manager, worker]
  force:
    description: With O(state=absent), do not wait for a node that does not answer any more.
    type: bool
    default: false
  wait:
    description: Wait until the node has its role, and until nothing runs any more on one that is drained.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds to wait at most.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Two labels, and no others
  covey.swarm.node:
    hostname: beta
    labels:
      disk: ssd
      rack: "12"
    labels_state: replace
  run_once: true

- name: Nothing runs on it any more
  covey.swarm.node:
    hostname: beta
    availability: drain
  run_once: true

- name: One more manager
  covey.swarm.node:
    hostname: gamma
    role: manager
  run_once: true

- name: Take it out
  covey.swarm.node:
    hostname: beta
    state: absent
  run_once: true
"""

RETURN = r"""
action:
  description: What was, or in check mode would be, done.
  returned: success
  type: str
  sample: update
changes:
  description: Paths of the fields that differ, as the Docker Engine API names them.
  returned: success
  type: list
  elements: str
  sample: [Availability]
node:
  description: The node as the cluster holds it, or in check mode would.
  returned: O(state=present)
  type: dict
  contains:
    ID:
      description: Id of the node.
      type: str
    Version:
      description: Version of the node object.
      type: int
    Spec:
      description: What it is declared to be.
      type: dict
"""

from ansible_collections.covey.swarm.plugins.module_utils._api import ApiError
from ansible_collections.covey.swarm.plugins.module_utils._module import WAITING, GaveUp, declared, run, until

OPTIONS = dict(
    WAITING,
    hostname={"type": "str", "required": True, "aliases": ["name"]},
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    labels={"type": "dict"},
    labels_state={"type": "str", "choices": ["merge", "replace"], "default": "merge"},
    labels_to_remove={"type": "list", "elements": "str"},
    availability={"type": "str", "choices": ["active", "pause", "drain"]},
    role={"type": "str", "choices": ["manager", "worker"]},
    force={"type": "bool", "default": False},
)
ENDED = frozenset(["complete", "shutdown", "failed", "rejected", "remove", "orphaned"])


class Node:
    """One node as the manager shows it now."""

    def __init__(self, api, name):
        self._api = api
        self._name = name

    def get(self):
        """The node; None if it is not there."""
        try:
            return self._api.get("/nodes/%s" % self._name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def declare(self, dry_run, **wish):
        return self._api.post("/covey/v1/nodes/%s/declare" % self._name, dict(wish, DryRun=dry_run))

    def has_role(self, role):
        seen = self.get()
        if role == "manager":
            return bool(seen) and (seen.get("ManagerStatus") or {}).get("Reachability") == "reachable"
        return not (seen and seen.get("ManagerStatus"))

    def busy(self, node_id):
        """The tasks that it still runs."""
        tasks = self._api.get("/tasks") or []
        return [task for task in tasks if task.get("NodeID") == node_id and task["Status"]["State"] not in ENDED]


def act(module, api):
    node = Node(api, module.params["hostname"])
    if module.params["state"] == "absent":
        return _remove(module, node)
    answer = node.declare(module.check_mode, **_wish(module.params))
    result = declared(module, answer, "node %s" % module.params["hostname"])
    result["node"] = {"ID": answer.get("ID"), "Version": answer.get("Version"), "Spec": answer.get("After")}
    if module.params["wait"] and not module.check_mode:
        _wait(module, node, answer["ID"], module.params["role"], module.params["availability"] == "drain")
    return result


def _wish(params):
    given = {
        "Labels": params["labels"] and {key: str(value) for key, value in params["labels"].items()},
        "LabelsToRemove": params["labels_to_remove"],
        "Availability": params["availability"],
        "Role": params["role"],
    }
    if params["labels"] is not None:
        given["LabelsState"] = params["labels_state"]
    return {key: value for key, value in given.items() if value is not None}


def _remove(module, node):
    seen = node.get()
    if seen is None:
        return {"changed": False, "action": "none", "changes": []}
    if not module.check_mode and not module.params["force"]:
        node.declare(False, Role="worker", Availability="drain")
        _wait(module, node, seen["ID"], "worker", True)
    answer = node.declare(module.check_mode, State="absent", Force=True)
    return declared(module, answer, "node %s" % module.params["hostname"])


def _wait(module, node, node_id, role, drained):
    seconds = module.params["wait_timeout"]
    name = module.params["hostname"]
    try:
        if role:
            until(lambda: node.has_role(role), seconds)
    except GaveUp:
        module.fail_json(msg="node %s is still not a %s after %d s" % (name, role, seconds))
    try:
        if drained:
            until(lambda: not node.busy(node_id), seconds)
    except GaveUp:
        left = ", ".join(sorted(task["ID"] for task in node.busy(node_id)))
        module.fail_json(msg="node %s still runs tasks after %d s: %s" % (name, seconds, left))


def main():
    run(act, OPTIONS)


if __name__ == "__main__":
    main()
