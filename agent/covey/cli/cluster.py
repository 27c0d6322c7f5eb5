# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey cluster ...`: the cluster's state out of a manager as one sealed file, into one, or from a last survivor."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from covey import durable
from covey.cli.agent import Agent, CallFailed
from covey.model.errors import InvalidArgument
from covey.model.secret import Secret
from covey.store import backup as file

#: Seconds between two pieces of an answer; the first comes after the key was derived from the passphrase.
PATIENCE = 60.0

Run = Callable[[argparse.Namespace, Agent], int]


class Mistake(Exception):
    """What was asked for cannot be done as it was asked; the text says why and what to do."""


def add_commands(commands: Any) -> None:
    """``covey cluster`` and what is below it; each sets ``run``."""
    cluster = commands.add_parser("cluster", help="back up, restore or recover the whole cluster")
    below = cluster.add_subparsers(required=True, metavar="COMMAND")
    _add_backup(below)
    _add_inspect(below)
    _add_restore(below)
    _add_recover(below)
    _add_find(below)


def _add(below: Any, name: str, run: Run, what: str, more: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = below.add_parser(name, help=what, description=f"{what.capitalize()}. {more}")
    command.set_defaults(run=run)
    return command


def _add_backup(below: Any) -> None:
    what = "write the cluster's state into one encrypted file"
    making = _add(below, "backup", backup, what, "On any manager. Containers, images and volumes are not part of it.")
    making.add_argument("file", type=Path, metavar="FILE", help="where; for its owner alone")
    making.add_argument("--force", action="store_true", help="replace FILE if it is there")
    local = "what this manager knows, without asking whether it is the newest; works without a leader"
    making.add_argument("--local", action="store_true", help=local)
    _add_passphrase(making)


def _add_inspect(below: Any) -> None:
    what = "say what a backup file is, or whether it opens"
    inspecting = _add(below, "inspect", inspect, what, "Needs neither an agent nor, without --verify, a passphrase.")
    inspecting.add_argument("file", type=Path, metavar="FILE")
    inspecting.add_argument("--verify", action="store_true", help="open it, as a restore would, and say what is in it")
    _add_passphrase(inspecting)


def _add_restore(below: Any) -> None:
    what = "make this host, in no cluster, the only manager of a backed-up one"
    more = "For when no manager is left; if one is, `covey cluster recover` on it knows more than the backup."
    restoring = _add(below, "restore", restore, what, more)
    restoring.add_argument("file", type=Path, metavar="FILE")
    restoring.add_argument("--advertise-addr", default="", metavar="IP", help="where other nodes reach this host")
    _add_passphrase(restoring)


def _add_recover(below: Any) -> None:
    what = "make this manager the only one, since most others are lost for good"
    more = "On one manager only, the one that knows most (`covey status` on each); it asks first."
    recovering = _add(below, "recover", recover, what, more)
    recovering.add_argument("--advertise-addr", default="", metavar="IP", help="this host's address if it has changed")
    recovering.add_argument("--yes", action="store_true", help="do not ask")


def _add_find(below: Any) -> None:
    what = "tell this host, whose managers have moved, where one of them answers"
    finding = _add(below, "find", find, what, "Its containers are not touched.")
    finding.add_argument("addresses", nargs="+", metavar="ADDRESS", help="of a manager: IP, or IP:PORT")


def _add_passphrase(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="the passphrase is the first line of FILE, or of the standard input with -; without it you are asked",
    )


def backup(wanted: argparse.Namespace, agent: Agent) -> int:
    """Write the file; it is there whole or not at all."""
    target: Path = wanted.file
    if target.exists() and not wanted.force:
        raise Mistake(f"{target} is there already: choose another name, or replace it with --force")
    passphrase = _passphrase(wanted.passphrase_file, twice=True)
    index = 0 if wanted.local else _newest(agent)
    body = json.dumps({"Passphrase": passphrase, "Index": index}).encode()
    save(target, agent.stream("POST", "/covey/v1/cluster/backup", body, PATIENCE), replace=wanted.force)
    _say_what_it_is(target)
    return 0


def _newest(agent: Agent) -> int:
    """How far the leader's state is."""
    try:
        return int(agent.get("/covey/v1/cluster/index", PATIENCE)["Index"])
    except CallFailed as refusal:
        status = agent.get("/covey/v1/status")
        if status.get("Raft") and not status.get("Leader"):
            raise Mistake(f"{refusal} What this manager knows is to be had with --local") from refusal
        raise


def restore(wanted: argparse.Namespace, agent: Agent) -> int:
    """Hand the file to the agent, which becomes the cluster's only manager."""
    _say_what_it_is(wanted.file)
    head = {
        "Passphrase": _passphrase(wanted.passphrase_file, twice=False),
        "AdvertiseAddr": wanted.advertise_addr,
    }
    body = json.dumps(head).encode() + b"\n" + wanted.file.read_bytes()
    node_id = agent.post("/covey/v1/cluster/restore", body, PATIENCE)["NodeID"]
    _say(f"restored   this host is node {node_id}, the cluster's only manager")
    return 0


def recover(wanted: argparse.Namespace, agent: Agent) -> int:
    """Go on with this manager alone, once a person has understood what that means."""
    status = agent.get("/covey/v1/status")
    if not wanted.yes and not _confirmed(status):
        raise Mistake("nothing was changed")
    body = json.dumps({"AdvertiseAddr": wanted.advertise_addr}).encode()
    node_id = agent.post("/covey/v1/cluster/recover", body, PATIENCE)["NodeID"]
    _say(f"recovered  node {node_id} is the cluster's only manager; the others become workers when they come back")
    return 0


def find(wanted: argparse.Namespace, agent: Agent) -> int:
    """Have the agent turn to these managers; its containers run on."""
    body = json.dumps({"Addrs": wanted.addresses}).encode()
    state = agent.post("/covey/v1/cluster/find", body, PATIENCE)["State"]
    _say(f"state      {state}")
    return 0 if state == "active" else 1


def _confirmed(status: dict[str, Any]) -> bool:
    if not sys.stdin.isatty():
        raise Mistake("there is nobody to ask whether this is meant: say --yes if it is")
    raft = status.get("Raft") or {}
    _say(f"cluster    {status.get('ClusterID') or 'none'}")
    _say(f"log        term {raft.get('Term', '?')}, index {raft.get('Index', '?')}")
    _say("Of the managers that are left, use the one that was recovered last, if any was; of equals the one with the")
    _say("highest term, and of those the one with the highest index: see `covey status` on each.")
    _say("This manager goes on alone. What the others know and this one does not is lost, and they lose their vote.")
    return input("Type yes to go on: ").strip() == "yes"


def inspect(wanted: argparse.Namespace, _agent: Agent) -> int:
    """Say what a backup is, and if it shall be verified, that it can be restored."""
    if wanted.passphrase_file is not None and not wanted.verify:
        raise Mistake("what a file says it is needs no passphrase; to see whether it opens, add --verify")
    _say_what_it_is(wanted.file)
    if not wanted.verify:
        return 0
    passphrase = Secret(_passphrase(wanted.passphrase_file, twice=False).encode())
    with _reading(wanted.file) as opened:
        _, view = file.read(opened, passphrase)
    _say(
        f"opens      {len(view.nodes)} nodes, {len(view.services)} services, {len(view.secrets)} secrets, "
        f"{len(view.configs)} configs"
    )
    return 0


def _say_what_it_is(path: Path) -> None:
    with _reading(path) as opened:
        about = file.read_about(opened)
    _say(f"file       {path}")
    _say(f"cluster    {about.cluster_id}")
    _say(f"index      {about.index}")
    _say(f"taken      {about.taken_at}")
    _say(f"release    {about.release}")


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """The file, opened; what is wrong with it is a mistake."""
    try:
        with path.open("rb") as opened:
            yield opened
    except InvalidArgument as refusal:
        raise Mistake(f"{path}: {refusal}") from refusal
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error


def save(target: Path, pieces: Iterable[bytes], *, replace: bool) -> None:
    """Make ``target`` (mode 0600), durably; what was there stays unless ``replace``, and until the new one is whole."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
            for piece in pieces:
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if replace:
            fresh.replace(target)
        else:
            os.link(fresh, target)  # unlike a rename, it fails where somebody made the file meanwhile
        durable.sync_names(target.parent)
    except FileExistsError as error:
        raise Mistake(f"{error.filename2 or error.filename} is there already; nothing was written") from error
    except OSError as error:
        if error.filename is None:
            raise  # the connection's, not the file's
        raise Mistake(f"{target} cannot be written: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _passphrase(source: str | None, *, twice: bool) -> str:
    """From a file, a pipe or a person; never from arguments or the environment, which others can read."""
    if source == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if source is not None:
        try:
            return Path(source).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(f"the passphrase cannot be read from {source}: {error}") from error
    if not sys.stdin.isatty():
        raise Mistake("there is nobody to ask for the passphrase: give --passphrase-file FILE, or - and pipe it in")
    passphrase = getpass.getpass("Passphrase of the backup: ")
    if twice and getpass.getpass("The same again: ") != passphrase:
        raise Mistake("these were two different passphrases; nothing was written")
    return passphrase


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a command line speaks to a person
