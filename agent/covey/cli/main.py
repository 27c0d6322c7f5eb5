# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey`: `covey status` says what this host is of a cluster, `covey cluster` handles the cluster as a whole,
`covey secret` and `covey config` do what the docker client cannot, `covey renew` gets this node a new certificate.

Exit status: 0 when it is done (for `status`: this host is active), 1 when not, 2 when the agent does not answer.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import covey
from covey.cli import cluster, dependencies
from covey.cli.agent import DEFAULT_SOCKET, Agent, CallFailed
from covey.model.units import rfc3339

#: Several managers may be asked, each of which may wait for an election.
RENEW_TIMEOUT = 60.0


def describe(status: Mapping[str, Any]) -> Iterator[str]:
    """The lines that ``covey status`` prints."""
    yield f"state      {status['State']}"
    if status.get("Version"):
        yield f"release    {status['Version']}"
    if status.get("ClusterID"):
        yield f"cluster    {status['ClusterID']}"
        yield f"node       {status['NodeID']} ({status['Role']})"
        yield f"address    {status['AdvertiseAddr']}"
    if status.get("Certificate"):
        yield f"certified  until {status['Certificate']['NotAfter']}"
    leader = status.get("Leader")
    for manager in status.get("Managers") or ():
        leads = " (leader)" if leader and leader["NodeID"] == manager["NodeID"] else ""
        yield f"manager    {manager['NodeID']} {manager['Addr']}{leads}"
    if raft := status.get("Raft"):
        if not leader:
            yield "leader     none"
        if raft["Epoch"]:
            yield f"recovered  {rfc3339(raft['Epoch'])}"
        yield f"log        term {raft['Term']}, index {raft['Index']}"
    if status.get("Error"):
        yield f"error      {status['Error']}"


def show_status(_wanted: argparse.Namespace, agent: Agent) -> int:
    """``covey status``."""
    status = agent.get("/covey/v1/status")
    print("\n".join(describe(status)))  # noqa: T201 - a command line speaks to a person
    return 0 if status["State"] == "active" else 1


def renew(_wanted: argparse.Namespace, agent: Agent) -> int:
    """``covey renew``."""
    answer = agent.post("/covey/v1/renew", b"", RENEW_TIMEOUT)
    print(f"certified  until {answer['Certificate']['NotAfter']}")  # noqa: T201 - a command line speaks to a person
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status."""
    parser = argparse.ArgumentParser(prog="covey", description=__doc__)
    parser.add_argument("--version", action="version", version=covey.__version__)
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help=f"the agent's control socket ({DEFAULT_SOCKET})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("status", help="what this host is of a cluster").set_defaults(run=show_status)
    commands.add_parser("renew", help="get this node a new certificate now").set_defaults(run=renew)
    cluster.add_commands(commands)
    dependencies.add_commands(commands)
    wanted = parser.parse_args(arguments)
    try:
        return int(wanted.run(wanted, Agent(wanted.socket)))
    except (cluster.Mistake, CallFailed) as refusal:
        return _fail(str(refusal), 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "see `systemctl status covey`, and run this as root or in the group covey"
        return _fail(f"the agent does not answer on {wanted.socket}: {reason}; {hint}", 2)


def _fail(text: str, status: int) -> int:
    print(f"covey: {text}", file=sys.stderr)  # noqa: T201 - a command line speaks to a person
    return status
