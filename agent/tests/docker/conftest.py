# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests against a real engine, on a host of the lab: `pytest -p covey_lab.plugin agent/tests/docker`.

Without that plugin there are no hosts, and these tests are not collected.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from covey_lab.host import Host
from covey_lab.images import archive
from covey_lab.lab import Lab


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.pluginmanager.has_plugin("covey_lab.plugin") else True


@dataclass(frozen=True)
class Engine:
    """A host's engine, reached from here."""

    host: Host
    url: str

    @property
    def shell(self) -> list[str]:
        return self.host.shell.command()

    def live_restore(self, on: bool) -> None:
        """Whether containers outlive the engine."""
        setting = shlex.quote(json.dumps({"live-restore": on}))
        self.host.ssh(f"echo {setting} > /etc/docker/daemon.json && systemctl reload docker")


@pytest.fixture(scope="session")
def engine(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with live-restore and the lab's images, its socket brought here by ssh."""
    [host] = lab.up(["engine"], "docker")
    host.allow_restarts("docker")
    host.load(archive(lab.places))
    socket = tmp_path_factory.mktemp("engine") / "docker.sock"
    apart = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"]
    forward = ["ssh", *apart, "-N", "-L", f"{socket}:/run/docker.sock", *host.shell.command()[1:]]
    with subprocess.Popen(forward) as process:
        try:
            _await(socket, process)
            made = Engine(host, f"unix://{socket}")
            made.live_restore(True)
            yield made
        finally:
            process.terminate()


def _await(socket: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if socket.exists():
            return
        assert process.poll() is None, "ssh could not forward the engine's socket"
        time.sleep(0.1)
    raise AssertionError("ssh did not forward the engine's socket in 30 s")
