# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated cluster behind its control API, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from apis import Client, Swarm
from virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, type[asyncio.AbstractEventLoop]]:
    """The front's tests wait for real sockets, those of backups for a real thread."""
    real = "front" in item.path.parts or item.path.name == "test_cluster.py"
    return {"real": asyncio.SelectorEventLoop} if real else {"virtual": VirtualLoop}


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


@pytest.fixture
def client(swarm: Swarm) -> Client:
    return swarm.client
