# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the worker pass in virtual time, on one host."""

from __future__ import annotations

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
