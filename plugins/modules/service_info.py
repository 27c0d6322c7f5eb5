#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show services, as the manager tells them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Show services of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Shows one service or all, with their tasks where wanted.
  - Objects are passed on as the manager gives them, in the shape of the Docker Engine API.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.info
options:
  name:
    description: Name or id of one service. Left out, all are shown.
    type: str
  tasks:
    description: Whether to show the services' tasks too.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: How is web?
  covey.swarm.service_info:
    name: web
    tasks: true
  register: web
  run_once: true

- name: It runs
  ansible.builtin.assert:
    that:
      - web.exists
      - web.service.ServiceStatus.RunningTasks == web.service.ServiceStatus.DesiredTasks
  run_once: true
"""

RETURN = r"""
exists:
  description: Whether the service is there.
  returned: when O(name) is given
  type: bool
service:
  description: The service.
  returned: when O(name) is given and it is there
  type: dict
services:
  description: All services that were asked for; none is an empty list.
  returned: success
  type: list
  elements: dict
tasks:
  description: The tasks of these services.
  returned: O(tasks=true)
  type: list
  elements: dict
"""

from ansible_collections.covey.swarm.plugins.module_utils._module import run

OPTIONS = {"name": {"type": "str"}, "tasks": {"type": "bool", "default": False}}


def act(module, api):
    name = module.params["name"]
    services = api.get("/services", {"status": "true"}) or []
    if name:
        services = _named(services, name)
    result = {"changed": False, "services": services}
    if name:
        result["exists"] = bool(services)
    if name and services:
        result["service"] = services[0]
    if module.params["tasks"]:
        ids = set(service["ID"] for service in services)
        result["tasks"] = [task for task in api.get("/tasks") or [] if task.get("ServiceID") in ids]
    return result


def _named(services, name):
    return [service for service in services if name in (service["ID"], service["Spec"]["Name"])]


def main():
    run(act, OPTIONS)


if __name__ == "__main__":
    main()
