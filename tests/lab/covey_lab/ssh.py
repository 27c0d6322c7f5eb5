# SPDX-License-Identifier: GPL-3.0-or-later
"""A shell on a lab host over real SSH, one kept connection per host. Never retries: who waits decides for how long."""

import shlex
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from covey_lab.run import LabError, run


@dataclass(frozen=True)
class Result:
    """What a command on a host came to."""

    host: str
    command: str
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    def check(self) -> "Result":
        if self.ok:
            return self
        said = "\n".join(part for part in (self.out.strip()[-4000:], self.err.strip()[-4000:]) if part)
        raise LabError(f"{self.host}: exit {self.code}: {self.command}\n{said or 'it said nothing'}")


@dataclass(frozen=True)
class Shell:
    """How to reach one host: `control` is the socket of the kept connection."""

    host: str
    address: str
    key: Path
    known_hosts: Path
    control: Path

    @property
    def trust(self) -> list[str]:
        """Options for every ssh client, Ansible's included: whose key is believed, and for how long to knock."""
        return [
            "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5",
        ]  # fmt: skip

    def command(self) -> list[str]:
        """The ssh client with everything but the command to run there."""
        return [
            "ssh", "-F", "/dev/null", "-i", str(self.key), *self.trust, "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
            "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=6",
            "-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-o", f"ControlPath={self.control}",
            f"root@{self.address}",
        ]  # fmt: skip

    def run(self, command: str, *, check: bool = True, stdin: bytes | str = b"", timeout: float = 120) -> Result:
        """Run a shell command as root; 255 is ssh's own failure to reach the host."""
        self.control.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            done = subprocess.run([*self.command(), command], input=data, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.host}: no end after {timeout:g} s: {command}") from None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        result = Result(self.host, command, done.returncode, out, err)
        return result.check() if check else result

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a whole directory to the path `target` on the host, modes kept."""
        there = shlex.quote(target)
        if not source.is_dir():
            mode = oct(source.stat().st_mode & 0o7777)[2:]
            self.run(f"cat > {there} && chmod {mode} {there}", stdin=source.read_bytes())
            return
        packed = subprocess.run(["tar", "-C", str(source), "-c", "."], stdout=subprocess.PIPE, check=True)
        self.run(f"mkdir -p {there} && tar -C {there} -x --no-same-owner", stdin=packed.stdout)

    def answers(self) -> bool:
        """Whether an SSH server greets; says nothing about logging in."""
        try:
            with socket.create_connection((self.address, 22), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def close(self) -> None:
        """Drop the kept connection; needed before a host goes away, since nobody tells it."""
        if self.control.exists():
            run(*self.command()[:-1], "-O", "exit", f"root@{self.address}", check=False)
        self.control.unlink(missing_ok=True)
