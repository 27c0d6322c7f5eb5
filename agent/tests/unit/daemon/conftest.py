# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for a vote passes in virtual time; what is as long as it takes has real sockets, threads or processes."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, type[asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop} if item.path.name == "test_vote.py" else {"real": asyncio.SelectorEventLoop}
