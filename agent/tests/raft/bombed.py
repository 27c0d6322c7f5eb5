# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole agent imported, and three managers that write, take snapshots, crash and catch up, in a process in which
unpickling anything is a bomb.  Prints what was imported and what was defused, as JSON; run by its test.

    python -m tests.raft.bombed DIRECTORY
"""

from __future__ import annotations

import _pickle
import asyncio
import importlib
import json
import marshal
import pickle  # noqa: TID251 - to take its teeth out
import pkgutil
import sys
from pathlib import Path
from typing import ClassVar

BLASTS: list[str] = []


class Bomb(BaseException):
    """Something unpickles.  Not an Exception, so that nobody swallows it."""


def bomb(name):
    """What takes the place of ``name``."""

    def explode(*_args, **_more):
        BLASTS.append(name)
        raise Bomb(name)

    return explode


class BombedUnpickler:
    """May be subclassed, and given entries of a table as pysyncobj does on import; never used."""

    dispatch: ClassVar[dict] = {}

    def __init__(self, *_args, **_more):
        bomb("Unpickler")()


def arm():
    """Before anything of the agent is imported."""
    for module in (pickle, _pickle):
        for name in ("load", "loads"):
            setattr(module, name, bomb(f"{module.__name__}.{name}"))
        module.Unpickler = BombedUnpickler
    pickle._load, pickle._loads, pickle._Unpickler = bomb("pickle._load"), bomb("pickle._loads"), BombedUnpickler
    sys.addaudithook(_listen)


def _listen(event, _args):
    """The interpreter's own word, from below every module: a class is looked up for a pickle."""
    if event == "pickle.find_class":
        bomb(event)()


def arm_marshal():
    """Once all is imported: until then the import system itself reads compiled modules with it."""
    marshal.load, marshal.loads = bomb("marshal.load"), bomb("marshal.loads")


def import_everything():
    """Every module of the agent, the daemon's entry point included."""
    import covey

    names = [info.name for info in pkgutil.walk_packages(covey.__path__, "covey.")]
    for name in names:
        importlib.import_module(name)
    return names


async def live(directory):
    """A life in which everything is read that is ever read: wire, journal, vote, snapshot on disk and on the wire."""
    from tests.raft.harness import Authority, Cluster

    cluster = Cluster(directory, Authority(directory))
    try:
        await cluster.of(3)
        names = [await cluster.write(f"a{number}") for number in range(20)]
        for member in cluster.running():
            await member.store.compact()
        names += [await cluster.write(f"b{number}") for number in range(20)]
        leader = await cluster.leader()
        await leader.crash()
        names += [await cluster.write(f"c{number}") for number in range(20)]
        await leader.start()
        await cluster.join("node-d")
        for member in cluster.running():
            await cluster.holds(member, names)
            assert list(member.directory.glob("snapshot")) or member.node_id == "node-d"
        return len(names)
    finally:
        await cluster.close()


def prove_that_the_bombs_go_off():
    """Or the silence of before would mean nothing."""
    written = pickle.dumps(Path("/"))
    for use in (lambda: pickle.loads(written), lambda: marshal.loads(b""), lambda: sys.audit("pickle.find_class")):
        try:
            use()
        except Bomb:
            continue
        raise AssertionError("a dud")


def main(directory):
    arm()
    imported = import_everything()
    arm_marshal()
    written = asyncio.run(live(Path(directory)))
    assert not BLASTS, BLASTS
    prove_that_the_bombs_go_off()
    print(json.dumps({"imported": imported, "written": written, "blasts": BLASTS}))


if __name__ == "__main__":
    main(sys.argv[1])
