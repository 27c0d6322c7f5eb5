# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a leader runs pass in virtual time."""

import pytest
from virtual_time import VirtualClock, VirtualLoop

from covey.store.memory import MemoryStore


def pytest_asyncio_loop_factories() -> dict[str, type[VirtualLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("manager1")
