# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images for the tests, made of Debian's static busybox alone: the same bytes, so the same ids, every time.

`covey/busybox:1` is a shell; `covey/web:1` and `:2` answer HTTP on PORT (8080) with their host name and version, and
end at once on SIGTERM.
"""

import functools
import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from covey_lab.debian import unpacked
from covey_lab.places import Places
from covey_lab.run import run

LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The shell stays as PID 1 since httpd alone would ignore SIGTERM there; when PID 1 ends, httpd ends with it.
WEB = b"""#!/bin/sh
mkdir -p /tmp/www
echo "$(hostname) $VERSION" > /tmp/www/index.html
trap 'exit 0' TERM INT
httpd -f -p "${PORT:-8080}" -h /tmp/www &
wait
"""


@dataclass(frozen=True)
class Image:
    """`layers` are uncompressed tars; everything else follows from these."""

    name: str
    tag: str
    command: tuple[str, ...]
    environment: tuple[str, ...]
    layers: tuple[bytes, ...]

    @functools.cached_property
    def config(self) -> bytes:
        """Its digest is the image's id in every engine."""
        fields = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Cmd": self.command, "Env": [PATH, *self.environment], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
        }
        return json.dumps(fields).encode()

    @property
    def id(self) -> str:
        return digest(self.config)

    @functools.cached_property
    def blobs(self) -> list[bytes]:
        """What a registry keeps besides the manifest: the compressed layers."""
        return [gzip.compress(layer, mtime=0) for layer in self.layers]

    @functools.cached_property
    def manifest(self) -> bytes:
        """Its digest is the one a pull shows."""
        described = [{"mediaType": LAYER, "size": len(blob), "digest": digest(blob)} for blob in self.blobs]
        config = {"mediaType": CONFIG, "size": len(self.config), "digest": self.id}
        fields = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}
        return json.dumps(fields).encode()


@functools.cache
def images(places: Places) -> list[Image]:
    busybox = unpacked(places, "busybox-static") / "bin/busybox"
    system = _system(busybox)
    web = _tar([_file("usr/bin/web", WEB, 0o755)])
    serving = [Image("covey/web", tag, ("web",), (f"VERSION={tag}",), (system, web)) for tag in ("1", "2")]
    return [Image("covey/busybox", "1", ("sh",), (), (system,)), *serving]


def archive(places: Places) -> Path:
    """All images as one file that `docker load` takes."""
    made = images(places)
    content = hashlib.sha256(b"".join(image.config for image in made)).hexdigest()[:12]
    path = places.cache / "images" / f"{content}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(_saved(made))
        new.rename(path)
    return path


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _saved(made: list[Image]) -> bytes:
    """The layout of `docker save`."""
    files: dict[str, bytes] = {}
    index = []
    for image in made:
        layers = {f"{digest(layer)[7:]}.tar": layer for layer in image.layers}
        config = f"{image.id[7:]}.json"
        files |= layers | {config: image.config}
        index.append({"Config": config, "RepoTags": [f"{image.name}:{image.tag}"], "Layers": list(layers)})
    files["manifest.json"] = json.dumps(index).encode()
    return _tar(_file(name, content, 0o644) for name, content in files.items())


def _system(busybox: Path) -> bytes:
    """busybox under all its names, and the few files programs look for."""
    applets = run(busybox, "--list-full").stdout.split()
    entries = [_directory(name) for name in ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "etc", "root")]
    entries += [_directory("tmp", 0o1777), _file("bin/busybox", busybox.read_bytes(), 0o755)]
    entries += [_link(name, "/bin/busybox") for name in applets if name != "bin/busybox"]
    entries.append(
        _file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)
    )
    entries.append(_file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644))
    return _tar(entries)


def _tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for entry, content in entries:
            file.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _file(name: str, content: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    return entry, content


def _directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry, b""


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry, b""
