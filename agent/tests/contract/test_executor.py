# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake keeps to the contract.  Docker Engine does in agent/tests/docker, on the lab's hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engines import EngineWorld, FakeWorld
from executor_contract import ExecutorContract


class TestFake(ExecutorContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[EngineWorld]:
        opened = FakeWorld()
        yield opened
        await opened.close()
