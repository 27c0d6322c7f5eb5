#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show configs, as the manager tells them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_info
short_description: Show configs of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Shows one config or all. Runs on a manager.
  - Objects are passed on as the manager gives them, in the shape of the Docker Engine API.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.info
options:
  name:
    description: Name or id of one config. Left out, all are shown.
    type: str
"""

EXAMPLES = r"""
- name: Is it there?
  covey.swarm.config_info:
    name: proxy.conf
  register: found
  run_once: true

- name: It is
  ansible.builtin.assert:
    that: found.exists
  run_once: true
"""

RETURN = r"""
exists:
  description: Whether the config is there.
  returned: when O(name) is given
  type: bool
config:
  description: The config.
  returned: when O(name) is given and it is there
  type: dict
kept:
  description: The values kept of it, newest first, as numbers with their times; not the data itself.
  returned: when O(name) is given and it is there
  type: list
  elements: dict
configs:
  description: All configs that were asked for; none is an empty list.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.covey.swarm.plugins.module_utils._dependency import INFO_OPTIONS, info
from ansible_collections.covey.swarm.plugins.module_utils._module import run


def main():
    run(lambda module, api: info(module, api, "config"), INFO_OPTIONS)


if __name__ == "__main__":
    main()
