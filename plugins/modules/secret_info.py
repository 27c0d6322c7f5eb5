#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show secrets, as the manager tells them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_info
short_description: Show secrets of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Shows one secret or all, never a value. Runs on a manager.
  - Objects are passed on as the manager gives them, in the shape of the Docker Engine API.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.info
options:
  name:
    description: Name or id of one secret. Left out, all are shown.
    type: str
"""

EXAMPLES = r"""
- name: Is it there?
  covey.swarm.secret_info:
    name: db_password
  register: found
  run_once: true

- name: It is
  ansible.builtin.assert:
    that: found.exists
  run_once: true
"""

RETURN = r"""
exists:
  description: Whether the secret is there.
  returned: when O(name) is given
  type: bool
secret:
  description: The secret.
  returned: when O(name) is given and it is there
  type: dict
kept:
  description: The values kept of it, newest first, as numbers with their times.
  returned: when O(name) is given and it is there
  type: list
  elements: dict
secrets:
  description: All secrets that were asked for; none is an empty list.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.covey.swarm.plugins.module_utils._dependency import INFO_OPTIONS, info
from ansible_collections.covey.swarm.plugins.module_utils._module import run


def main():
    run(lambda module, api: info(module, api, "secret"), INFO_OPTIONS)


if __name__ == "__main__":
    main()
