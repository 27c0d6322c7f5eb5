# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file systems all hosts start from: made once by mmdebstrap, cached under a hash of what goes in.

Two flavours: `docker` (Debian's engine and client, python3-venv) and `virgin` (a server with ssh and Python, no more).
What belongs to one lab or one host (keys, names, addresses) is never in here; disk.py writes it at boot.
"""

import hashlib
import platform as python_platform
import shutil
import sys
from pathlib import Path

from covey_lab import machine
from covey_lab.mounts import lower_directories, remove_tree
from covey_lab.places import Places
from covey_lab.run import LabError, locked, run

VIRGIN = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "python3", "iproute2", "iptables", "iputils-ping",
    "procps", "kmod", "curl", "netbase", "ca-certificates",
)  # fmt: skip
FLAVOURS = {"virgin": VIRGIN, "docker": (*VIRGIN, "python3-apt", "python3-venv", "docker.io")}
INIT = "/usr/sbin/covey-lab-init"
# What nspawn leaves wrong and is too late to mend once systemd runs: /sys shows this machine's network devices instead
# of the host's, and on cgroup v1 the controllers are read-only, so that systemd would ignore all limits.
INIT_SCRIPT = """#!/bin/sh
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount --make-rprivate /mnt  # else each unmounting below would unmount the other place, too
umount -l -R /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
umount -l -R /mnt
for controller in /sys/fs/cgroup/*/; do
  if mountpoint -q "$controller"; then mount -o remount,bind,rw "$controller"; fi
done
exec /lib/systemd/systemd
"""
ENGINE = '{"live-restore": true}\n'  # as Covey's own role installs it
SSHD = "MaxSessions 100\nMaxStartups 100\nUseDNS no\n"
MASKED = ("e2scrub_reap.service", "e2scrub_all.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer")


def ensure_base(places: Places, flavour: str, keep: set[Path]) -> Path:
    """The base of that flavour, built if it is not cached; older ones go, except `keep` and those in use."""
    if flavour not in FLAVOURS:
        raise LabError(f"flavour {flavour!r}: choose one of {', '.join(FLAVOURS)}")
    bases = places.cache / "base"
    with locked(places.cache / "base.lock"):
        wanted = bases / f"{flavour}-{_key(flavour)}"
        if not wanted.is_dir():
            _build(flavour, wanted)
            _remove_older(bases, flavour, {wanted, *keep, *lower_directories()})
        return wanted


def _key(flavour: str) -> str:
    """Changes with the packages, this recipe, and whatever of this machine is copied in."""
    recipe = [Path(__file__).read_text(), machine.CODENAME, flavour, python_platform.machine()]
    copied = [*machine.apt_sources(), machine.apt_settings(), machine.pip_settings(), machine.certificates()]
    return hashlib.sha256("\0".join(recipe + copied).encode()).hexdigest()[:12]


def _build(flavour: str, target: Path) -> None:
    print(f"building the {flavour} base, once: about a minute", file=sys.stderr)
    building = target.with_name(target.name + ".building")
    remove_tree(building)
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ("-q", "--variant=minbase", "--mode=root", "--skip=cleanup/apt")
    packages = f"--include={','.join(FLAVOURS[flavour])}"
    sources = "".join(f"{source}\n" for source in machine.apt_sources())
    run("mmdebstrap", *options, packages, machine.CODENAME, building, "-", stdin=sources, timeout=3600)
    _finish(building)
    if "docker.io" in FLAVOURS[flavour]:
        (building / "etc/docker").mkdir(exist_ok=True)
        (building / "etc/docker/daemon.json").write_text(ENGINE)
    building.rename(target)


def _finish(root: Path) -> None:
    """What makes of the bare system a lab host: this machine's way to the registries, and quicker, quieter boots."""
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(machine.certificates())
    (root / "etc/apt/apt.conf.d/90machine").write_text(machine.apt_settings())
    (root / "etc/pip.conf").write_text(machine.pip_settings())
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(SSHD)
    init = root / INIT.lstrip("/")
    init.write_text(INIT_SCRIPT)
    init.chmod(0o755)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    # A journal on the disk survives a pulled plug and is readable from this machine when ssh is not.
    (root / "var/log/journal").mkdir(exist_ok=True)


def _remove_older(bases: Path, flavour: str, keep: set[Path]) -> None:
    for old in bases.glob(f"{flavour}-*"):
        if old not in keep:
            shutil.rmtree(old) if not old.name.endswith(".building") else remove_tree(old)
