# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of this machine: which there are below a path, and removing directories without following one."""

import shutil
from pathlib import Path

from covey_lab.run import LabError, run


def mounted(path: Path) -> bool:
    return path in mounts_under(path)


def mounts_under(path: Path) -> list[Path]:
    """Every mount point at or below `path`, the deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split(" ")[4].encode().decode("unicode_escape"))
        if point.is_relative_to(path):
            found.append(point)
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def lower_directories() -> set[Path]:
    """Every directory that some mounted overlay reads from."""
    found: set[Path] = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        for option in line.rsplit(" ", 1)[1].split(","):
            if option.startswith("lowerdir="):
                found.update(Path(lower) for lower in option.removeprefix("lowerdir=").split(":"))
    return found


def unmount_under(path: Path) -> None:
    for point in mounts_under(path):
        run("umount", point)


def remove_tree(path: Path) -> None:
    """Delete a directory of the lab; refuses while something is mounted in it, since it would be deleted with it."""
    unmount_under(path)
    left = mounts_under(path)
    if left:
        raise LabError(f"{path} is not removed: {left[0]} is still mounted there; unmount it, then run clean again")
    if path.exists():
        shutil.rmtree(path)
