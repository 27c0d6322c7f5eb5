# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between an ordinary Debian 12 and a machine without systemd: how a host is started and found.

`OrdinaryMachine`: systemd is PID 1 and cgroups are v2; each host is a transient unit. `BareMachine`: no systemd, one
cgroup v1 hierarchy per controller; each host gets its group in every one of them. Nothing else in the lab asks which.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from covey_lab.base import INIT
from covey_lab.run import LabError, run

CGROUPS = Path("/sys/fs/cgroup")
REBOOT = 133  # how nspawn says that its host asked for a reboot
MODULES = ("overlay", "br_netfilter", "bridge", "veth", "vxlan", "ip_vs", "loop")
VISIBLE = "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes"  # else dockerd cannot set the host's own /proc/sys/net


@dataclass(frozen=True)
class Machine:
    """A host as this machine starts it; `wire` is the command that gives it a new network at each boot."""

    name: str
    hostname: str
    root: Path
    binds: tuple[tuple[Path, str], ...]
    console: Path
    wire: tuple[str, ...]


class Platform(Protocol):
    """Starting, finding and ending hosts. Every call may be repeated; ending what is not there does nothing."""

    def boot(self, machine: Machine) -> None: ...
    def processes(self, name: str) -> list[int]:
        """Every process of the host, as this machine numbers them."""

    def power_off(self, name: str) -> None:
        """Ask the host to shut down; returns at once."""

    def freeze(self, name: str, frozen: bool) -> None: ...
    def forget(self, name: str) -> None:
        """Remove what is left of a host that has ended."""

    def names(self, prefix: str) -> list[str]:
        """All hosts, running or not, of which something with that prefix is left."""

    def start(self, name: str, command: list[str], log: Path) -> None:
        """Run a helper process of the lab in the background, found again by `processes`."""


def this_machine() -> Platform:
    for module in MODULES:
        run("modprobe", "-q", module, check=False)  # built in, or not to be had: what needs it says so itself
    if Path("/run/systemd/system").is_dir():
        if not (CGROUPS / "cgroup.controllers").exists():
            raise LabError(
                "systemd runs here, but not on cgroup v2 alone: boot without systemd.unified_cgroup_hierarchy=0"
            )
        return OrdinaryMachine()
    if not (CGROUPS / "pids").is_dir():
        raise LabError(
            "neither systemd nor cgroup v1 hierarchies are here (a container?): the lab needs a whole machine"
        )
    return BareMachine()


def leader(platform: Platform, name: str) -> int | None:
    """The host's PID 1; a container's PID 1 inside the host is one level deeper."""
    for pid in platform.processes(name):
        levels = _status(pid, "NSpid:")
        if len(levels) == 2 and levels[1] == "1":
            return pid
    return None


def parent(pid: int) -> int | None:
    found = _status(pid, "PPid:")
    return int(found[0]) if found else None


def end(pid: int, how: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


class OrdinaryMachine:
    """Hosts as transient units of this machine's systemd, which delegates each its part of the cgroup tree."""

    def boot(self, machine: Machine) -> None:
        properties = (
            "Delegate=yes", "KillMode=mixed", "TasksMax=infinity", f"RestartForceExitStatus={REBOOT}",
            f"SuccessExitStatus={REBOOT}", f"ExecStartPre={shlex.join(machine.wire)}",
            f"StandardOutput=append:{machine.console}", f"StandardError=append:{machine.console}",
        )  # fmt: skip
        self.forget(machine.name)
        run(
            "systemd-run", "-q", f"--unit={machine.name}", "-E", VISIBLE,
            *(f"--property={value}" for value in properties), *nspawn(machine),
        )  # fmt: skip

    def processes(self, name: str) -> list[int]:
        group = self._group(name)
        return list(_members(group)) if group else []

    def power_off(self, name: str) -> None:
        run("systemctl", "stop", "--no-block", f"{name}.service", check=False)

    def freeze(self, name: str, frozen: bool) -> None:
        group = self._group(name)
        if group:
            (group / "cgroup.freeze").write_text("1" if frozen else "0")

    def forget(self, name: str) -> None:
        run("systemctl", "stop", f"{name}.service", check=False)
        run("systemctl", "reset-failed", f"{name}.service", check=False)

    def names(self, prefix: str) -> list[str]:
        listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{prefix}*.service").stdout
        return [line.split()[0].removesuffix(".service") for line in listed.splitlines() if line]

    def start(self, name: str, command: list[str], log: Path) -> None:
        self.forget(name)
        output = (f"--property=StandardOutput=append:{log}", f"--property=StandardError=append:{log}")
        run("systemd-run", "-q", f"--unit={name}", *output, *command)

    def _group(self, name: str) -> Path | None:
        """Where the unit's processes are; None when it has none."""
        group = run("systemctl", "show", "-P", "ControlGroup", f"{name}.service").stdout.strip().lstrip("/")
        return CGROUPS / group if group and (CGROUPS / group).is_dir() else None


class BareMachine:
    """Hosts as background processes; the cgroup a process was started in tells whose it is."""

    # Joins the groups, then becomes the loop that boots the host again for as long as it asks for a reboot.
    HOST = """
for group in /sys/fs/cgroup/*/; do echo $$ > "$group$1/cgroup.procs"; done
again={reboot}
while [ $again = {reboot} ]; do {wire} && {nspawn}; again=$?; done
"""
    HELPER = 'for group in /sys/fs/cgroup/*/; do echo $$ > "$group$1/cgroup.procs"; done; exec {command}'

    def boot(self, machine: Machine) -> None:
        command = shlex.join(nspawn(machine))
        script = self.HOST.format(reboot=REBOOT, wire=shlex.join(machine.wire), nspawn=f"{VISIBLE} {command}")
        self._start(machine.name, script, machine.console)

    def start(self, name: str, command: list[str], log: Path) -> None:
        self._start(name, self.HELPER.format(command=shlex.join(command)), log)

    def _start(self, name: str, script: str, log: Path) -> None:
        for hierarchy in _hierarchies():
            (hierarchy / name).mkdir(exist_ok=True)
        for kind in ("cpus", "mems"):  # empty in a new group, and nothing can join it so
            inherited = (CGROUPS / f"cpuset/cpuset.{kind}").read_text()
            (CGROUPS / "cpuset" / name / f"cpuset.{kind}").write_text(inherited)
        with log.open("a") as output:
            words = ["setsid", "--fork", "sh", "-c", script, name, name]
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True, cwd="/")

    def processes(self, name: str) -> list[int]:
        return list(_members(CGROUPS / "pids" / name))

    def power_off(self, name: str) -> None:
        first = leader(self, name)
        nspawn_process = parent(first) if first else None
        if nspawn_process:
            end(nspawn_process, signal.SIGTERM)

    def freeze(self, name: str, frozen: bool) -> None:
        state = CGROUPS / "freezer" / name / "freezer.state"
        if state.exists():
            state.write_text("FROZEN" if frozen else "THAWED")

    def forget(self, name: str) -> None:
        for hierarchy in _hierarchies():
            group = hierarchy / name
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()

    def names(self, prefix: str) -> list[str]:
        return sorted({group.name for hierarchy in _hierarchies() for group in hierarchy.glob(f"{prefix}*")})


def nspawn(machine: Machine) -> list[str]:
    """Each option is there because something fails without it (dockerd and runc want the capabilities and calls)."""
    return [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--machine={machine.name}",
        f"--hostname={machine.hostname}", f"--directory={machine.root}",
        f"--network-namespace-path=/run/netns/{machine.name}",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--capability=all",
        "--system-call-filter=@keyring bpf",
        "--kill-signal=SIGRTMIN+3", "--console=pipe", *(f"--bind={here}:{there}" for here, there in machine.binds),
        INIT,
    ]  # fmt: skip


def _hierarchies() -> list[Path]:
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _members(group: Path) -> Iterator[int]:
    """The processes of a cgroup and of all below it; groups come and go while we look."""
    for directory, _, _ in os.walk(group):
        try:
            yield from map(int, Path(directory, "cgroup.procs").read_text().split())
        except OSError:
            continue


def _status(pid: int, field: str) -> list[str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(field)), [])
