# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a lab: power, shell, files, and what can go wrong with it."""

import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from covey_lab import network
from covey_lab.disk import Disk
from covey_lab.places import Net, Places, machine_name
from covey_lab.platform import Machine, Platform, end, leader
from covey_lab.record import HostRecord
from covey_lab.run import LabError, run
from covey_lab.ssh import Result, Shell
from covey_lab.waiting import wait_until

FILLED = ".covey-lab-filled"
# ext4 keeps some blocks back until it has written the others out, so one write to the end is not enough.
FILL = f"""
read -r path || true
number=0
while cat /dev/zero >> "$path/{FILLED}" 2>/dev/null; sync -f "$path"; echo x 2>/dev/null > "$path/{FILLED}.$number"; do
  number=$((number + 1))
done
"""


@dataclass(frozen=True)
class Surroundings:
    """What a host shares with the others of its lab. `registry`: the address hosts pull from."""

    lab: str
    net: Net
    places: Places
    platform: Platform

    @property
    def directory(self) -> Path:
        return self.places.state / self.lab

    @property
    def key(self) -> Path:
        return self.directory / "id"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def certificate(self) -> Path:
        """Of the lab's registry; it is its own authority."""
        return self.directory / "registry.crt"

    @property
    def registry(self) -> str:
        return f"{self.net.gateway}:5000"


class Host:
    """A host that may be on or off; every method may be called in either state."""

    def __init__(self, name: str, record: HostRecord, around: Surroundings) -> None:
        self.name, self.record, self.around = name, record, around
        self.machine_name = machine_name(around.lab, name)
        self.address = around.net.address(record.number)
        self.disk = Disk(
            around.directory / "hosts" / name, Path(record.base), around.places.cache / "shared", record.small
        )
        control = around.places.runtime / around.lab / name
        self.shell = Shell(name, self.address, around.key, around.known_hosts, control)

    def __repr__(self) -> str:
        return f"<host {self.name} {self.address}>"

    # -- power ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return bool(self.around.platform.processes(self.machine_name))

    def start(self) -> None:
        """Switch on; returns before it is up. On again after a plug, it finds its disk as it was."""
        if self.running:
            return
        self._dismantle()
        self.disk.mount()
        self.disk.personalise(
            hostname=self.name,
            address=self.address,
            login=self.around.key.with_suffix(".pub").read_text(),
            host_key=self._host_key(),
            registry_ca=(self.around.registry, self.around.certificate.read_text()),
        )
        wire = (*_this_program(self.around.places), "wire", self.around.lab, self.name)
        machine = Machine(self.machine_name, self.name, self.disk.root, self.disk.binds(), self.disk.console, wire)
        self.around.platform.boot(machine)

    def wait(self, timeout: float = 90) -> None:
        """Until systemd says that booting has ended: sshd answers, and so does an installed engine."""
        wait_until(self.shell.answers, timeout, f"{self.name}'s sshd; its console is {self.disk.console}")
        self.shell.close()
        look = "systemctl is-system-running --wait"
        wait_until(lambda: self._state(look) in {"running", "degraded"}, timeout, f"{self.name} to have booted")

    def boot(self) -> None:
        self.start()
        self.wait()

    def power_off(self) -> None:
        """Shut down in order; the disk stays. A host that does not end within 90 s loses its power."""
        if self.running:
            self.shell.close()
            self.around.platform.freeze(self.machine_name, frozen=False)
            self.around.platform.power_off(self.machine_name)
            self._wait_for_the_end(90)
        self.plug()

    def plug(self) -> None:
        """Pull the plug: every process is gone at once, nothing is told. The disk stays as it was."""
        first = leader(self.around.platform, self.machine_name)
        if first:
            end(first, signal.SIGKILL)
        self.around.platform.freeze(self.machine_name, frozen=False)  # the frozen die only once thawed
        if not self._wait_for_the_end(5):
            for pid in self.around.platform.processes(self.machine_name):
                end(pid, signal.SIGKILL)
            self._wait_for_the_end(10)
        self._dismantle()

    def wipe(self) -> None:
        """Pull the plug and forget the disk: the next boot is the first."""
        self.plug()
        self.disk.wipe()

    def reboot(self) -> None:
        """As an operator would; returns when it is up again."""
        before = self.boot_id()
        self.shell.run("systemctl reboot", check=False)
        self.shell.close()
        wait_until(lambda: self.shell.answers() and self.boot_id() != before, 120, f"{self.name} to boot again")
        self.wait()

    def boot_id(self) -> str:
        return self.ssh("cat /proc/sys/kernel/random/boot_id").out.strip()

    # -- work ----------------------------------------------------------------------------------------------------

    def ssh(self, command: str, *, check: bool = True, stdin: bytes | str = b"", timeout: float = 120) -> Result:
        """Run a shell command as root; an exit other than 0 raises, unless `check` is off."""
        return self.shell.run(command, check=check, stdin=stdin, timeout=timeout)

    def docker(self, *words: str, check: bool = True, stdin: bytes | str = b"", timeout: float = 120) -> Result:
        """Run Debian's docker client on the host; `-H unix:///...` as first words asks another socket."""
        return self.ssh(f"docker {shlex.join(words)}", check=check, stdin=stdin, timeout=timeout)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or directory of this machine to the path `target` on the host."""
        self.shell.put(source, target)

    def load(self, image: Path) -> None:
        """Give the host's engine the images of a `docker save` file."""
        self.docker("load", "-q", stdin=image.read_bytes())

    def allow_restarts(self, unit: str) -> None:
        """Lift systemd's limit on how often a unit may start in a minute, which a quick test runs into."""
        directory = f"/etc/systemd/system/{unit}.service.d"
        limit = f"printf '[Unit]\\nStartLimitIntervalSec=0\\n' > {directory}/lab.conf"
        self.ssh(f"mkdir -p {directory} && {limit} && systemctl daemon-reload")

    # -- trouble -------------------------------------------------------------------------------------------------

    def pause(self, unit: str | None = None) -> None:
        """Stop the processes of a unit where they are (SIGSTOP); without a unit, the whole host."""
        self._hold(unit, stopped=True)

    def resume(self, unit: str | None = None) -> None:
        self._hold(unit, stopped=False)

    def fill(self, path: str) -> None:
        """Use up the file system at `path`, which must be one of the host's small ones."""
        self._small(path)
        self.ssh(FILL, stdin=path)

    def free(self, path: str) -> None:
        self._small(path)
        self.ssh(f"rm -f {shlex.quote(path)}/{FILLED}*")

    # -- inside --------------------------------------------------------------------------------------------------

    def _hold(self, unit: str | None, *, stopped: bool) -> None:
        if unit is None:
            self.around.platform.freeze(self.machine_name, frozen=stopped)
            return
        self.ssh(f"systemctl kill --signal={'STOP' if stopped else 'CONT'} {shlex.quote(unit)}")

    def _small(self, path: str) -> None:
        if path not in self.record.small:
            raise LabError(
                f"{self.name}: {path} is no small file system; boot it with `up {self.name} --small {path}=SIZE`"
            )

    def _state(self, look: str) -> str:
        return self.shell.run(look, check=False, timeout=60).out.strip()

    def _wait_for_the_end(self, timeout: float) -> bool:
        try:
            return wait_until(lambda: not self.running, timeout, f"{self.name} to end", every=0.02)
        except LabError as error:
            print(error, file=sys.stderr)
            return False

    def _dismantle(self) -> None:
        """Take away what a boot made, except the disk's content."""
        self.shell.close()
        self.around.platform.forget(self.machine_name)
        network.unwire(self.around.net, self.record.number, self.machine_name)
        self.disk.unmount()

    def _host_key(self) -> Path:
        """Made here, once per host and kept over a wipe: quicker than in the host, and it can be checked."""
        key = self.around.directory / "keys" / self.name
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", key)
        line = f"{self.address} {key.with_suffix('.pub').read_text()}"
        known = self.around.known_hosts.read_text() if self.around.known_hosts.exists() else ""
        if line not in known:
            with self.around.known_hosts.open("a") as file:
                file.write(line)
        return key


def _this_program(places: Places) -> tuple[str, ...]:
    """The command line of this lab tool with these places, from any directory."""
    source = Path(__file__).parent.parent
    settings = (f"PYTHONPATH={source}", f"COVEY_CACHE={places.cache.parent}", f"COVEY_LAB_STATE={places.state}")
    return ("env", *settings, sys.executable, "-m", "covey_lab")
