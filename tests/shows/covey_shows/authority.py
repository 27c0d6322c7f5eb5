# SPDX-License-Identifier: GPL-3.0-or-later
"""Two authorities outside of the cluster with one root, as an operator with a signing service and a spare has them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

SUPPORT = str(Path(__file__).resolve().parents[3] / "agent/tests/support")
if SUPPORT not in sys.path:
    sys.path.append(SUPPORT)

from cfssl import Cfssl, make_root  # noqa: E402 - from the agent's tests


class Outside:
    """They serve from a thread, at an address that all hosts reach."""

    def __init__(self, address: str, client: bytes) -> None:
        """``client``: the root (PEM) whose nodes they let in, besides nodes of their own."""
        self.root = make_root()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="authorities")
        self._members = [Cfssl(self.root, [client], host=address) for _ in range(2)]

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self._members]

    def __enter__(self) -> Self:
        self._thread.start()
        for each in self._members:
            self._do(each.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._members:
            self._do(each.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def close(self, url: str) -> None:
        """That one is down."""
        self._do(next(each for each in self._members if each.url == url).stop())

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(10)
