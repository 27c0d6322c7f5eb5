#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare a config; whether its value is another one the managers decide, which hold it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config
short_description: Declare a config of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Declares a config and its value. Runs on a manager.
  - Whoever may ask a manager can read a config; what nobody may read belongs in a secret.
  - Another value under the same name is given to the services that use it, by a rolling update as each of them declares it.
    The former values are kept for a while, so C(docker service rollback) brings back the former value as well.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.changes
options:
  name:
    description: Name of the config.
    type: str
    required: true
  state:
    description: V(absent) removes the config with all its values. It is refused while a service uses it.
    type: str
    choices: [present, absent]
    default: present
  data:
    description:
      - The value. Give this or O(data_src) with O(state=present).
      - It must be larger than 0 and less than 1000 KB.
    type: str
  data_is_b64:
    description: Whether O(data) is base64, which lets it hold any bytes.
    type: bool
    default: false
  data_src:
    description: Path of a file on the host that the module runs on, which holds the value.
    type: path
  labels:
    description: Labels of the config. Left out, it has none.
    type: dict
  template_driver:
    description:
      - V(golang) fills in placeholders such as C({{.Node.Hostname}}) for each container.
      - Beside those of a service, there are C({{secret "TARGET"}}), C({{config "TARGET"}}) and C({{env "NAME"}}).
    type: str
    choices: [golang]
seealso:
  - module: covey.swarm.service
"""

EXAMPLES = r"""
- name: What the proxy reads
  covey.swarm.config:
    name: proxy.conf
    data: "{{ lookup('ansible.builtin.template', 'proxy.conf.j2') }}"
  run_once: true

- name: Filled in by the node that runs the container
  covey.swarm.config:
    name: identity
    data: !unsafe 'host = {{.Node.Hostname}}'
    template_driver: golang
  run_once: true

- name: No more of it
  covey.swarm.config:
    name: identity
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
  description: What differs; V(Value) stands for the value.
  returned: success
  type: list
  elements: str
  sample: [Value]
config_id:
  description: Id of the config with this value. Another value has another id. Empty in check mode where there is none yet.
  returned: O(state=present)
  type: str
config_name:
  description: Name of the config.
  returned: O(state=present)
  type: str
"""

from ansible_collections.covey.swarm.plugins.module_utils._dependency import OPTIONS, RULES, declare
from ansible_collections.covey.swarm.plugins.module_utils._module import run


def main():
    options = dict(OPTIONS, data={"type": "str"})
    run(lambda module, api: declare(module, api, "config"), options, **RULES)


if __name__ == "__main__":
    main()
