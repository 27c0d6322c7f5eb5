# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's disk: an overlay on the base, what is written into it before each boot, and its extra mounts.

Everything of one host is below one directory: upper/work/root (the overlay), docker (an engine's own directory, since
overlay2 cannot stand on an overlay), small (file systems that can be filled), apt (its package archive), console.log.
"""

import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from covey_lab import machine
from covey_lab.mounts import mounted, remove_tree, unmount_under
from covey_lab.run import LabError, run

ARCHIVES = "/var/cache/apt/archives"
PIP_CACHE = "/root/.cache/pip"


@dataclass(frozen=True)
class Disk:
    """`shared` is the directory of what hosts download, kept for the hosts after them."""

    path: Path
    base: Path
    shared: Path
    small: dict[str, str] = field(default_factory=dict)  # mount point in the host -> size, as truncate writes it

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    def mount(self) -> None:
        if not self.base.is_dir():
            raise LabError(f"{self.path.name}: its base {self.base} is gone; wipe the host to start on the present one")
        for part in ("upper", "work", "root", "docker", "apt", "small"):
            (self.path / part).mkdir(parents=True, exist_ok=True)
        if not mounted(self.root):
            layers = f"lowerdir={self.base},upperdir={self.path}/upper,workdir={self.path}/work"
            run("mount", "-t", "overlay", f"covey-lab-{self.path.name}", "-o", layers, self.root)
        for number, (point, size) in enumerate(sorted(self.small.items())):
            self._mount_small(number, point, size)
        self._fill_archive()

    def binds(self) -> tuple[tuple[Path, str], ...]:
        """What of this machine the host sees at which of its paths."""
        pip = self.shared / "pip"
        pip.mkdir(parents=True, exist_ok=True)
        (self.root / PIP_CACHE.lstrip("/")).mkdir(parents=True, exist_ok=True)
        smalls = tuple((self._small(n), point) for n, point in enumerate(sorted(self.small)))
        own = ((self.path / "docker", "/var/lib/docker"), (self.path / "apt", ARCHIVES), (pip, PIP_CACHE))
        return own + smalls

    def personalise(
        self, hostname: str, address: str, login: str, host_key: Path, registry_ca: tuple[str, str]
    ) -> None:
        """Write what makes this copy of the base this host. `registry_ca`: its address, the certificate's text."""
        self._write("etc/hostname", f"{hostname}\n")
        self._write("etc/hosts", f"127.0.0.1 localhost\n{address} {hostname}\n")
        self._write("etc/resolv.conf", machine.name_servers())
        if not (self.path / "upper/etc/machine-id").exists():
            self._write("etc/machine-id", f"{uuid.uuid4().hex}\n")
        self._write("root/.ssh/authorized_keys", login, mode=0o600)
        self._write("etc/ssh/ssh_host_ed25519_key", host_key.read_text(), mode=0o600)
        self._write("etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
        self._write(f"etc/docker/certs.d/{registry_ca[0]}/ca.crt", registry_ca[1])

    def unmount(self) -> None:
        """Let go of the disk, keeping what is on it and what it downloaded."""
        unmount_under(self.path)
        archive = self.shared / "apt"
        archive.mkdir(parents=True, exist_ok=True)
        for package in (self.path / "apt").glob("*.deb"):
            _link(package, archive / package.name)

    def wipe(self) -> None:
        remove_tree(self.path)

    def _fill_archive(self) -> None:
        """A directory of its own per host, since apt locks it; the packages in it are links to one copy."""
        for package in (self.shared / "apt").glob("*.deb"):
            _link(package, self.path / "apt" / package.name)

    def _small(self, number: int) -> Path:
        return self.path / "small" / str(number)

    def _mount_small(self, number: int, point: str, size: str) -> None:
        here = self._small(number)
        image = here.with_suffix(".img")
        here.mkdir(exist_ok=True)
        (self.root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        if not image.exists():
            run("truncate", "-s", size, image)
            run("mke2fs", "-q", "-t", "ext4", "-m", "0", image)
        if not mounted(here):
            run("mount", "-o", "loop", image, here)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if ".ssh" in name else 0o755)
        path.write_text(text)
        path.chmod(mode)


def _link(source: Path, target: Path) -> None:
    """One copy on the disk where both are on one file system."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
