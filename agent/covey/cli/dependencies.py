# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey secret ...` and `covey config ...`: another value under the same name, former values, clearing up.

What Swarm has as well the docker client does.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from covey.cli.agent import Agent
from covey.cli.cluster import Mistake

#: A write may wait for an election.
PATIENCE = 30.0

Command = Callable[[str, argparse.Namespace, Agent], int]


def add_commands(commands: Any) -> None:
    """``covey secret``, ``covey config`` and what is below them; each sets ``run``."""
    for kind in ("secret", "config"):
        below = commands.add_parser(kind, help=f"new and former values of a {kind}").add_subparsers(
            required=True, metavar="COMMAND"
        )
        changing = _add(below, kind, "update", update, "give it another value, which the services that use it follow")
        changing.add_argument("name", metavar="NAME")
        changing.add_argument("file", metavar="FILE", help="where the value is; - is the standard input")
        _add(below, kind, "values", values, "the values kept of it").add_argument("name", metavar="NAME")
        going_back = _add(below, kind, "rollback", rollback, "make a former value the newest again")
        going_back.add_argument("name", metavar="NAME")
        going_back.add_argument("--number", type=int, help="which one; without it the one before the newest")
        clearing = _add(below, kind, "prune", prune, "remove all that no service uses, not even for a rollback")
        clearing.add_argument("--dry-run", action="store_true", help="only say what would be removed")
        clearing.add_argument("--label", action="append", metavar="KEY[=VALUE]", help="only what has this label")


def _add(below: Any, kind: str, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = below.add_parser(name, help=text)
    command.set_defaults(run=partial(run, kind))
    return command


def update(kind: str, wanted: argparse.Namespace, agent: Agent) -> int:
    """Another value, everything else of it as it is."""
    at = f"/{kind}s/{quote(wanted.name, safe='')}"
    thing = agent.get(at)
    spec = {**thing["Spec"], "Data": base64.b64encode(_content(wanted.file)).decode()}
    version = thing["Version"]["Index"]
    answer = agent.post(f"{at}/update?version={version}", json.dumps(spec).encode(), PATIENCE)
    same = answer["ID"] == thing["ID"]
    _say(f"{'unchanged' if same else 'updated'}  {wanted.name} {answer['ID']}")
    return 0


def values(kind: str, wanted: argparse.Namespace, agent: Agent) -> int:
    """One line a value, the newest first."""
    for one in agent.get(f"/covey/v1/{kind}s/{quote(wanted.name, safe='')}/values"):
        current = "  current" if one["Current"] else ""
        _say(f"{one['Number']:>4}  {one['CreatedAt']}  {one['ID']}{current}")
    return 0


def rollback(kind: str, wanted: argparse.Namespace, agent: Agent) -> int:
    """A former value once more."""
    number = f"?number={wanted.number}" if wanted.number is not None else ""
    answer = agent.post(f"/covey/v1/{kind}s/{quote(wanted.name, safe='')}/rollback{number}", b"", PATIENCE)
    _say(f"updated  {wanted.name} {answer['ID']}")
    return 0


def prune(kind: str, wanted: argparse.Namespace, agent: Agent) -> int:
    """The names that are, or would be, gone."""
    filters = quote(json.dumps({"label": wanted.label} if wanted.label else {}))
    dry = "&dry-run=true" if wanted.dry_run else ""
    answer = agent.post(f"/covey/v1/{kind}s/prune?filters={filters}{dry}", b"", PATIENCE)
    for name in answer["Removed"]:
        _say(name)
    return 0


def _content(source: str) -> bytes:
    """From a file or a pipe; never from arguments, which others can read."""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise Mistake(f"{source} cannot be read: {error.strerror}") from error


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a command line speaks to a person
