# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling systemd how the daemon is (sd_notify(3)), and asking it what for; silent where systemd did not start us."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds for systemd to say which jobs there are.
ASK_TIMEOUT = 2.0


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


def watchdog_period(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd wants to hear from process ``pid`` (WatchdogSec=); None where it does not."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


async def is_restarting(environment: Mapping[str, str]) -> bool:
    """Whether systemd stops this process to start it again at once, rather than for good or to shut the host down."""
    if "INVOCATION_ID" not in environment:
        return False
    try:
        return is_restart(await _jobs(), unit_of(_own_cgroups()))
    except (OSError, TimeoutError) as error:
        log.warning("whether this is a restart cannot be told: %s", str(error) or "systemd does not answer")
        return False


def _own_cgroups() -> str:
    return Path("/proc/self/cgroup").read_text(encoding="utf-8")


def unit_of(cgroups: str) -> str:
    """The service in ``/proc/self/cgroup``; empty if there is none."""
    last = (line.rpartition("/")[2] for line in cgroups.splitlines())
    return next((name for name in last if name.endswith(".service")), "")


def is_restart(jobs: str, unit: str) -> bool:
    """Whether ``systemctl list-jobs`` (id, unit, type, state) has a restart of that unit."""
    return any(line.split()[1:3] == [unit, "restart"] for line in jobs.splitlines())


async def _jobs() -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "systemctl", "list-jobs", "--no-legend", "--no-pager", stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(ASK_TIMEOUT):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        raise OSError(f"systemctl list-jobs failed: {err.decode(errors='replace').strip()}")
    return out.decode(errors="replace")
