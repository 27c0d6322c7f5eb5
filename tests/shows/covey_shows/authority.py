# SPDX-License-Identifier: GPL-3.0-or-later
"""Two authorities outside of the cluster with one root, as an operator with a signing service and a spare has them.

And certificates that have ended, by a root whose key is here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

SUPPORT = str(Path(__file__).resolve().parents[3] / "agent/tests/support")
if SUPPORT not in sys.path:
    sys.path.append(SUPPORT)

from cfssl import PEM, Cfssl, Root, make_root  # noqa: E402 - from the agent's tests
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402


def ended(root: Root, pem: str) -> str:
    """The first of these certificates as that root would have issued it, had it ended an hour ago."""
    old, now = x509.load_pem_x509_certificates(pem.encode())[0], datetime.now(UTC)
    new = (
        x509.CertificateBuilder(root.certificate.subject, old.subject, old.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now - timedelta(hours=1))
    )
    for each in old.extensions:
        if each.oid != x509.AuthorityKeyIdentifier.oid:
            new = new.add_extension(each.value, each.critical)
    return new.sign(root.key, hashes.SHA256()).public_bytes(PEM).decode()


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
