# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling systemd how the daemon is (sd_notify(3)); silent where systemd did not ask."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environment: Mapping[str, str], **state: str) -> None:
    """Send ``READY=1``, ``STATUS=...`` and the like: one keyword each."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect(address)
        out.sendall("\n".join(f"{key}={value}" for key, value in state.items()).encode())
