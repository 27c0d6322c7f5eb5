# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - waiting has an end
"""One manager's store in a process of its own.  Answers its test on an inherited socket, JSON lines both ways, and ends
with it.

    python -m tests.raft.manager_process SETTINGS

The first line says at which port the others reach it.  A question is ``[number, name, arguments]``, its answer
``[number, value, error]``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest

from covey.model.errors import Conflict, NotLeader, Unavailable
from covey.state.codec import decode_batch
from covey.store.raft import RaftSettings, RaftStore, Timings
from tests.raft.ablations import ABLATIONS
from tests.raft.harness import FileContexts, identify

#: Why there is no value, by name; anything else is unforeseen and ends the process.
REFUSALS = {kind.__name__: kind for kind in (Conflict, NotLeader, Unavailable)}


def calling(node_id):
    """The name under which that node dials."""
    return f"from {node_id}"


class NamedContexts(FileContexts):
    """Dials with its node's name in the clear, as an application protocol: so that a relay can tell who calls."""

    def __init__(self, chain, root, name):
        super().__init__(chain, root)
        self._name = name

    def client(self):
        context = super().client()
        context.set_alpn_protocols([calling(self._name)])
        return context


class Answering:
    """What may be asked of a manager, by name."""

    def __init__(self, store):
        self._store = store

    async def propose(self, batch, timeout):
        return await self._store.propose(decode_batch(bytes.fromhex(batch)), timeout)

    async def read(self, timeout):
        """The registers: what is observed and what is declared of each node, and the version of that."""
        view = await self._store.barrier(timeout)
        return {node.id: (node.status.message, node.spec.name or "", node.version) for node in view.nodes.values()}

    async def leads(self):
        """The term, once it does."""
        changed = self._store.changed()
        while not self._store.leadership().leading:
            await changed.wait()
        return self._store.leadership().term

    async def voters(self):
        return dict(self._store.voters())

    async def add(self, node_id, address):
        await self._store.add_member(node_id, address, 20)


async def answer(answering, writer, number, name, arguments):
    """Answer one question."""
    value = error = None
    try:
        value = await getattr(answering, name)(*arguments)
    except tuple(REFUSALS.values()) as refusal:
        error = next(name for name, kind in REFUSALS.items() if isinstance(refusal, kind))
    writer.write(json.dumps([number, value, error]).encode() + b"\n")


async def listen(store, fd):
    """Answer until the test hangs up, then end without a last word."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    writer.write(json.dumps(store.port).encode() + b"\n")
    answering = Answering(store)
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(answer(answering, writer, *json.loads(line)))
        sys.exit()


async def main(fd, node_id, directory, address, chain, root, timings):
    """Live until the test hangs up or the store fails."""
    settings = RaftSettings(node_id, Path(directory), ("127.0.0.1", 0), address, Timings(**timings))
    store = RaftStore(settings, NamedContexts(Path(chain), Path(root), node_id), identify)
    await store.start()
    failing = asyncio.ensure_future(store.failed())
    failing.add_done_callback(lambda task: task.cancelled() or sys.exit(str(task.result())))
    await listen(store, fd)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if without := given.pop("without"):
        ABLATIONS[without].remove(pytest.MonkeyPatch())
    asyncio.run(main(**given))
