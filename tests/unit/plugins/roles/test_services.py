# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role passes on every option of the module, and knows no other."""

from __future__ import annotations

import os

import yaml
from ansible_collections.covey.swarm.plugins.modules.service import OPTIONS

ROLE = os.path.join(os.path.dirname(__file__), "..", "..", "..", "..", "roles", "services")


def load(*path):
    with open(os.path.join(ROLE, *path), encoding="utf-8") as file:
        return yaml.safe_load(file)


def test_every_option_of_the_module_and_no_other():
    declare = [task["covey.swarm.service"] for task in load("tasks", "main.yml") if "covey.swarm.service" in task]
    assert set(declare[0]) == set(OPTIONS)
    assert set(load("vars", "main.yml")["__services_options"]) == set(OPTIONS)
