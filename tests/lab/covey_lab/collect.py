# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed test leaves for a person to read: journals, containers and console of every host of the lab.

Journals are read from the hosts' disks, so that those of a host that is off, stuck or cut off are there too.
"""

from collections.abc import Callable
from pathlib import Path

from covey_lab.host import Host
from covey_lab.lab import Lab
from covey_lab.run import LabError, run

UNITS = {"covey": ("covey.service",), "docker": ("docker.service", "containerd.service")}
ASKED = {"containers": "docker ps -a --no-trunc", "processes": "ps axf -o pid,stat,etime,rss,args", "network": "ip a"}
CONSOLE_BYTES = 100_000


def collect(lab: Lab, target: Path) -> None:
    """Write one directory per host below `target`; a question that a host does not answer is answered by why."""
    for host in lab.hosts:
        there = target / host.name
        there.mkdir(parents=True, exist_ok=True)
        for name, units in UNITS.items():
            _write(there / f"{name}.log", _journal(host, *(f"--unit={unit}" for unit in units)))
        _write(there / "journal.log", _journal(host, "--lines=5000"))
        for name, command in ASKED.items():
            _write(there / f"{name}.txt", _answer(host, command))
        _write(there / "console.log", _console(host))


def _write(path: Path, read: Callable[[], str]) -> None:
    try:
        path.write_text(read())
    except (LabError, OSError) as error:
        path.write_text(f"not collected: {error}\n")


def _journal(host: Host, *options: str) -> Callable[[], str]:
    directory = host.disk.path / "upper/var/log/journal"
    shown = ("--no-pager", "--output=short-iso-precise", "--quiet")
    return lambda: run("journalctl", f"--directory={directory}", *shown, *options, timeout=20).stdout


def _console(host: Host) -> Callable[[], str]:
    return lambda: host.disk.console.read_text(errors="replace")[-CONSOLE_BYTES:]


def _answer(host: Host, command: str) -> Callable[[], str]:
    def ask() -> str:
        if not host.shell.answers():
            raise LabError(f"{host.name} does not answer")
        result = host.ssh(command, check=False, timeout=10)
        return result.out + result.err

    return ask
