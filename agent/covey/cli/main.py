# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey status`: what this host is of a cluster, in words; exit 0 if it is active, 1 if not, 2 if nobody answers."""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import covey

DEFAULT_SOCKET = "/run/covey/covey.sock"
TIMEOUT = 10.0


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("covey", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of dialling a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def fetch(path: str, target: str) -> Any:
    """The JSON answer of the agent behind the socket at ``path``; OSError if there is none."""
    connection = _Connection(path)
    try:
        connection.request("GET", target)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def describe(status: Mapping[str, Any]) -> Iterator[str]:
    """The lines that ``covey status`` prints."""
    yield f"state      {status['State']}"
    if status.get("ClusterID"):
        yield f"cluster    {status['ClusterID']}"
        yield f"node       {status['NodeID']} ({status['Role']})"
        yield f"address    {status['AdvertiseAddr']}"
    leader = status.get("Leader")
    for manager in status.get("Managers") or ():
        leads = " (leader)" if leader and leader["NodeID"] == manager["NodeID"] else ""
        yield f"manager    {manager['NodeID']} {manager['Addr']}{leads}"
    if status.get("Error"):
        yield f"error      {status['Error']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status."""
    parser = argparse.ArgumentParser(prog="covey", description=__doc__)
    parser.add_argument("--version", action="version", version=covey.__version__)
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help=f"the agent's control socket ({DEFAULT_SOCKET})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("status", help="what this host is of a cluster")
    wanted = parser.parse_args(arguments)
    try:
        status = fetch(wanted.socket, "/covey/v1/status")
    except OSError as error:
        print(  # noqa: T201 - a command line speaks to a person
            f"covey: the agent does not answer on {wanted.socket}: {error.strerror or error}; "
            "see `systemctl status covey`, and run this as root or in the group covey",
            file=sys.stderr,
        )
        return 2
    print("\n".join(describe(status)))  # noqa: T201
    return 0 if status["State"] == "active" else 1
