# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all modules share: connection options, one place where errors become failures, polling, diffs."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.covey.swarm.plugins.module_utils._api import AgentMissing, Api, ApiError

CONNECTION = {
    "socket": {"type": "path", "default": "/run/covey/covey.sock"},
    "timeout": {"type": "int", "default": 60},
}
WAITING = {
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 120},
}
POLL_SECONDS = 0.5


class GaveUp(Exception):
    """The time to wait is over."""


def run(act, options, **more):
    """Run `act(module, api) -> result` as a module with these options besides those of the connection."""
    module = AnsibleModule(argument_spec=dict(CONNECTION, **options), supports_check_mode=True, **more)
    api = Api(module.params["socket"], module.params["timeout"])
    try:
        module.exit_json(**act(module, api))
    except AgentMissing as missing:
        if not module.check_mode:
            module.fail_json(msg=missing.msg)
        module.warn("%s. Check mode counts this task as a change, since the agent has to be installed first" % missing.msg)
        module.exit_json(changed=True)
    except ApiError as error:
        module.fail_json(msg=error.msg, status=error.status)


def until(found, seconds):
    """The first true answer of `found()`, asked again until `seconds` are over; GaveUp then."""
    end = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise GaveUp()
        time.sleep(POLL_SECONDS)


def declared(module, answer, what):
    """The result that every declaration gives, from the agent's answer to it."""
    for text in answer.get("Warnings") or []:
        module.warn(text)
    result = {
        "changed": answer["Changed"],
        "action": answer["Action"],
        "changes": [change["Path"] for change in answer.get("Diff") or []],
    }
    if module._diff:
        result["diff"] = {
            "before_header": what,
            "after_header": what,
            "before": answer.get("Before") or {},
            "after": answer.get("After") or {},
        }
    return result
