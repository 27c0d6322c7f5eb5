# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of Debian packages that are used here without being installed: no service starts, nothing is left over."""

import tempfile
from pathlib import Path

from covey_lab.mounts import remove_tree
from covey_lab.places import Places
from covey_lab.run import locked, run


def unpacked(places: Places, package: str) -> Path:
    """The content of that package of this machine's sources, downloaded once."""
    target = places.cache / "packages" / package
    with locked(places.cache / "packages.lock"):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        building = target.with_name(package + ".building")
        remove_tree(building)
        with tempfile.TemporaryDirectory(dir=target.parent) as download:
            # run in that directory as root: apt's own user may not write there
            command = 'cd "$1" && apt-get download -q -o APT::Sandbox::User=root "$2"'
            run("sh", "-c", command, "sh", download, package, timeout=300)
            for archive in Path(download).glob("*.deb"):
                run("dpkg-deb", "-x", archive, building)
        building.rename(target)
        return target
