# SPDX-License-Identifier: GPL-3.0-or-later
"""Callers of a manager's ports with all kinds of certificates, as a stranger on the network would be."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import tempfile
from dataclasses import dataclass
from typing import Any

from covey_lab.host import Host

IDENTITY = "/var/lib/covey/cluster/identity/identity.json"
#: The name that every manager's certificate carries.
MANAGER = "swarm-manager"
TIMEOUT = 5.0
#: What a refused connection may look like from outside.
REFUSED = (ssl.SSLError, ConnectionError, TimeoutError, http.client.HTTPException, socket.timeout)


@dataclass(frozen=True)
class Credentials:
    """A certificate and its key, PEM; empty for a caller that shows none.  ``root``: whom the caller trusts."""

    certificate: str = ""
    key: str = ""
    root: str = ""

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.root)
        if self.certificate:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(self.certificate + "\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def stolen(host: Host) -> Credentials:
    """The identity of that host's agent, as somebody with its disk would have it."""
    found = json.loads(host.ssh(f"cat {IDENTITY}").out)
    return Credentials(found["Certificate"], found["Key"], found["Root"])


def call(address: str, who: Credentials, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and decoded body of one call to the cluster server at ``address``."""
    with (
        socket.create_connection((address, 2377), TIMEOUT) as raw,
        who.context().wrap_socket(raw, server_hostname=MANAGER) as tunnel,
    ):
        connection = http.client.HTTPConnection(address)
        connection.sock = tunnel
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
    is_json = "json" in answer.getheader("Content-Type", "")
    return answer.status, json.loads(data) if data and is_json else data.decode()


def speaks(address: str, port: int, who: Credentials) -> bool:
    """Whether a manager goes on talking with that caller: within TLS 1.3 a refusal shows at the first read."""
    try:
        with (
            socket.create_connection((address, port), TIMEOUT) as raw,
            who.context().wrap_socket(raw, server_hostname=MANAGER) as connection,
        ):
            connection.settimeout(1.0)
            return connection.recv(1) != b""
    except TimeoutError:
        return True
    except (ssl.SSLError, ConnectionError):
        return False
