# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module says about check mode, diff and idempotence; never an option."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status without changing anything.
  diff_mode:
    description: Returns what changes, or would change in C(check_mode), when in diff mode.
  idempotent:
    description: A second run with the same options, if nothing else happened in between, changes nothing.
  platform:
    description: Operating systems of the hosts it runs on.
    support: full
    platforms: linux
  action_group:
    description: Use C(group/covey.swarm.swarm) in C(module_defaults) to set connection options for all modules at once.
    support: full
    membership:
      - covey.swarm.swarm
"""

    CHANGES = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: It never changes anything.
  diff_mode:
    support: N/A
    details: It never changes anything.
  idempotent:
    support: full
"""
