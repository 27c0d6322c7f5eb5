# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the worker pass in virtual time, on one host."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import IMAGE, House, InlineLoop


def pytest_asyncio_loop_factories() -> dict[str, type[InlineLoop]]:
    return {"virtual": InlineLoop}


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "worker")
    made.engine.images.add(IMAGE)
    return made


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on a tmpfs, as there is one on every Linux host."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory) / "tasks"
