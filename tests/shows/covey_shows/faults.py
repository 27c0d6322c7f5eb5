# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab cannot do to a host from outside: a disk that confirms nothing, a byte that is another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from covey_lab.host import Host

RAFT = "/var/lib/covey/cluster/raft"

#: While this file is there, the agent's disk does not confirm anything.
FAILING = "/var/lib/covey-syncs-fail"

#: Python runs it at each start of the agent, by a line in its environment's site-packages; the product has no switch
#: for it.
SYNCS = f"""
import errno
import os

def failing(sync):
    def fail_or_sync(fd):
        if os.path.exists("{FAILING}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)
    return fail_or_sync

os.fsync, os.fdatasync = failing(os.fsync), failing(os.fdatasync)
"""

FLIP = """
import sys
with open(sys.argv[1], "r+b") as file:
    data = file.read()
    file.seek(len(data) // 2)
    file.write(bytes([data[len(data) // 2] ^ 0xFF]))
"""


@contextmanager
def breakable_syncs(hosts: list[Host]) -> Iterator[None]:
    """Inside, an agent that is started can be made to have a failing disk, by `failing_syncs`."""
    site = "$(echo /opt/covey/current/lib/python3*/site-packages)"
    for host in hosts:
        host.ssh(f"cat > {site}/failing_syncs.py", stdin=SYNCS)
        host.ssh(f"echo import failing_syncs > {site}/failing_syncs.pth")
    try:
        yield
    finally:
        for host in hosts:
            host.ssh(f"rm {site}/failing_syncs.*")


@contextmanager
def failing_syncs(host: Host) -> Iterator[None]:
    """Inside, each fsync and fdatasync of that host's agent fails with EIO."""
    host.ssh(f"touch {FAILING}")
    try:
        yield
    finally:
        host.ssh(f"rm {FAILING}")


def flip(host: Host, path: str) -> None:
    """Invert the byte in the middle of that file; done twice, it is as before."""
    host.ssh(f"python3 - {path}", stdin=FLIP)


@contextmanager
def flipped(host: Host, path: str) -> Iterator[None]:
    """Inside, the byte in the middle of that file is another one."""
    flip(host, path)
    try:
        yield
    finally:
        flip(host, path)
