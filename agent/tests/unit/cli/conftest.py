# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent behind a real socket for the tests of commands."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread
from typing import Any, ClassVar

import pytest


class Handler(BaseHTTPRequestHandler):
    """An agent that answers what the test says."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, Callable[[bytes], tuple[int, bytes, int]]]] = {}
    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.asked.append((self.path, body))
        status, data, announced = self.answers[self.path](body)
        self.send_response(status)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def address_string(self) -> str:
        return "test"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[type[Handler]]:
    Handler.answers, Handler.asked = {}, []
    with ThreadingUnixStreamServer(str(tmp_path / "covey.sock"), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Handler
        server.shutdown()
        thread.join()
