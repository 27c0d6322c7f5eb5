# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs it runs: what they get, and what their troubles become."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.network.hostports import HostPort
from covey.network.kernel import IpTables, KernelRefused


def program(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


async def test_the_difference_is_handed_over_without_flushing_what_is_not_ours(programs: Path) -> None:
    program(programs, "iptables-save", "echo '*filter'")
    program(programs, "iptables-restore", f'echo "$@" > {programs}/args; /bin/cat > {programs}/text')
    await IpTables().apply([HostPort("tcp", 8080, "172.17.0.2", 80)])
    assert (programs / "args").read_text().split() == ["--noflush", "--wait", "5"]
    assert "--to-destination 172.17.0.2:80" in (programs / "text").read_text()


async def test_nothing_is_changed_where_there_is_nothing_of_ours_to_clear(programs: Path) -> None:
    program(programs, "iptables-save", "echo '*filter'")
    await IpTables().clear()


async def test_its_absence_is_told(programs: Path) -> None:
    with pytest.raises(KernelRefused, match="iptables-save cannot be run"):
        await IpTables().clear()


async def test_its_refusal_is_told_in_its_own_words(programs: Path) -> None:
    program(programs, "iptables-save", "echo 'Permission denied (you must be root)' >&2; exit 4")
    with pytest.raises(KernelRefused, match="you must be root"):
        await IpTables().apply([])
