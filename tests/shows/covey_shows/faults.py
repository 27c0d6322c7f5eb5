# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab does not do: a disk that confirms nothing, a byte that is another one, links that are slow and lossy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covey_lab.host import Host
from covey_lab.run import run

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

#: The managers' Raft port, where the relay listens, and the mark of its own connections.
PORT, RELAY, MARK = 2378, 12378, 7

#: What a host sends to another manager's Raft port goes through its relay, connections that are there are reset, and of
#: the packets that come to it from there, so many of a hundred are lost.
BAD_LINKS = f"""
table ip nemesis {{
  chain output {{
    type nat hook output priority -100
    meta mark != {MARK} tcp dport {PORT} redirect to :{RELAY}
  }}
}}
table inet nemesis {{
  chain output {{
    type filter hook output priority 0
    meta mark != {MARK} tcp dport {PORT} reject with tcp reset
  }}
  chain input {{
    type filter hook input priority 0
    tcp dport {PORT} numgen random mod 100 < LOSS drop
    tcp sport {PORT} numgen random mod 100 < LOSS drop
  }}
}}
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
            host.ssh(f"rm -f {site}/failing_syncs.*")  # a host that was replaced meanwhile has none


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


@contextmanager
def bad_links(host: Host, delay: float, loss: int) -> Iterator[None]:
    """Inside, what this host tells other managers by Raft, and is answered, is late by ``delay`` to twice that many
    seconds each way, and ``loss`` of a hundred packets get lost.

    In its network namespace but on this machine, by a relay and the packet filter: kernels need not have netem.
    """
    inside = ("nsenter", f"--net=/run/netns/{host.machine_name}")
    program = Path(__file__).with_name("relay.py")
    command = [*inside, sys.executable, str(program), str(RELAY), str(MARK), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        assert relay.stdout.readline() == "ready\n"
        run(*inside, "nft", "-f", "-", stdin=BAD_LINKS.replace("LOSS", str(loss)))
        try:
            yield
        finally:
            run(*inside, "nft", "delete table ip nemesis; delete table inet nemesis")
            carried, _ = relay.communicate(timeout=10)
    assert int(carried) > 0, f"nothing of {host.name} went through the relay"
