# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts as an Ansible inventory, with the groups the collection's playbooks use."""

import json
import shlex
from collections.abc import Sequence

from covey_lab.host import Host
from covey_lab.run import LabError


def inventory(hosts: Sequence[Host], managers: Sequence[str]) -> str:
    """YAML; hosts named in `managers` (at least one) are managers, the others workers."""
    if not hosts:
        raise LabError("the lab has no hosts, so there is no inventory; boot some with `up NAME...`")
    unknown = sorted(set(managers) - {host.name for host in hosts})
    if unknown:
        raise LabError(f"no such host: {', '.join(unknown)}; the lab has {', '.join(host.name for host in hosts)}")
    settings = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(hosts[0].shell.key),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": shlex.join(hosts[0].shell.trust),
        "ansible_ssh_pipelining": True,
    }
    lines = [
        "all:",
        "  vars:",
        *(f"    {name}: {json.dumps(value)}" for name, value in settings.items()),
        "  children:",
    ]
    for group, members in (
        ("covey_managers", [host for host in hosts if host.name in managers]),
        ("covey_workers", [host for host in hosts if host.name not in managers]),
    ):
        lines += [f"    {group}:", "      hosts:" if members else "      hosts: {}"]
        lines += [f"        {host.name}: {{ansible_host: {host.address}}}" for host in members]
    return "\n".join(lines) + "\n"
