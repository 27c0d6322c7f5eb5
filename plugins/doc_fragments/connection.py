# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options by which a module finds its agent, and nothing else."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The control socket of the agent on the host that the module runs on.
      - It belongs to root and the group C(covey); use C(become) where the remote user is neither.
    type: path
    default: /run/covey/covey.sock
  timeout:
    description: How many seconds the agent may take to answer one call.
    type: int
    default: 60
notes:
  - The module needs nothing on the host but Python; it speaks to the agent's control socket.
  - Calls that concern the whole cluster are taken by any manager, which passes them on to the leader.
  - Where the agent is not installed yet, check mode counts the task as a change and says so in a warning.
"""
