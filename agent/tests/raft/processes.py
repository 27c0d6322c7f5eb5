# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - waiting has an end
"""A cluster of managers that are processes, so that they can be stopped, killed and cut off from each other.

Each is dialled through a relay of its own, which lets a caller through or has its bytes wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import covey
from covey.model.errors import Unavailable
from covey.store.raft import Timings, bootstrap, prepare_join
from tests.raft.manager_process import REFUSALS, calling

AGENT = Path(covey.__file__).parents[1]
NAMES = ("node-a", "node-b", "node-c")

#: A leader without a majority goes on believing in itself for longer than any fault lasts: so that nothing but the care
#: for each single read keeps it from answering with what is old.
STUBBORN = Timings(leader_fallback=60)
#: And one that is heard late, since this machine is busy, stays the leader.
PATIENT = replace(STUBBORN, election_min=1.5, election_max=2.5)


class Relay:
    """The way to one manager.  A manager speaks only on connections that it dialled, so each way has a direction."""

    def __init__(self):
        self.port, self.address = 0, ""
        self.open = {name: asyncio.Event() for name in NAMES}
        for way in self.open.values():
            way.set()
        self._server, self._tasks = None, set()

    async def start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def refuse(self):
        """Take nobody new."""
        if self._server is not None:
            self._server.close()

    def _accept(self, reader, writer):
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader, writer):
        async with ending(writer):
            greeting = await reader.read(1 << 16)
            way = next((way for name, way in self.open.items() if calling(name).encode() in greeting), None)
            if way is None:
                return  # hung up before it said who it is
            await way.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            async with ending(back):
                back.write(greeting)
                pumps = [asyncio.ensure_future(pump(way, *ends)) for ends in ((reader, back), (there, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in pumps:
                        each.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def close(self):
        """Return once the last connection has ended, for which its callers must have."""
        for way in self.open.values():
            way.set()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def ending(writer):
    """The connection ends with this, and this with the connection."""
    with contextlib.suppress(OSError):
        try:
            yield
        finally:
            writer.transport.abort()
            await writer.wait_closed()


async def pump(way, reader, writer):
    """Pass bytes on while the way is open."""
    while data := await reader.read(1 << 16):
        await way.wait()
        writer.write(data)
        await writer.drain()


class Manager:
    """One manager; its directory, certificate and relay outlive its process."""

    def __init__(self, node_id, directory, contexts, timings, without):
        self.node_id, self.directory, self.relay = node_id, directory / node_id, Relay()
        self._contexts, self._timings, self._without = contexts, timings, without
        self._process, self._writer, self._listening = None, None, None
        self._numbers, self._waiting = itertools.count(), {}

    async def start(self):
        ours, theirs = socket.socketpair()
        with theirs:
            self._spawn(theirs.fileno())
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self.relay.port = json.loads(await reader.readline() or "0")
        assert self.relay.port, f"{self.node_id} did not start:\n{self.story()}"
        self._listening = asyncio.ensure_future(self._listen(reader))

    def _spawn(self, fd):
        settings = {
            "fd": fd,
            "node_id": self.node_id,
            "directory": str(self.directory),
            "address": self.relay.address,
            "chain": str(self._contexts._chain),
            "root": str(self._contexts._root),
            "timings": asdict(self._timings),
            "without": self._without,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.raft.manager_process", json.dumps(settings)],
                env={**os.environ, "PYTHONPATH": str(AGENT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd],
            )

    @property
    def _log(self):
        return self.directory.with_suffix(".log")

    def story(self):
        return self._log.read_text()

    # -- asking

    async def _listen(self, reader):
        while line := await self._next(reader):
            number, value, error = json.loads(line)
            answer = self._waiting.pop(number, None)
            if answer is None or answer.done():
                continue
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(REFUSALS[error](f"says {self.node_id}"))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable(f"{self.node_id} is gone"))
        self._waiting.clear()

    async def _next(self, reader):
        with contextlib.suppress(OSError):
            return await reader.readline()

    def tell(self, name, *arguments):
        """Put a question; a future of its answer."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        if not self.running:
            answer.set_exception(Unavailable(f"{self.node_id} does not run"))
            return answer
        self._waiting[number] = answer
        self._writer.write(json.dumps([number, name, arguments]).encode() + b"\n")
        return answer

    async def ask(self, name, *arguments, timeout=30):
        """The answer; Unavailable if there is none in time."""
        try:
            async with asyncio.timeout(timeout):
                return await self.tell(name, *arguments)
        except TimeoutError:
            raise Unavailable(f"{self.node_id} is silent") from None

    # -- faults

    @property
    def running(self):
        return self._listening is not None and not self._listening.done()

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    async def kill(self):
        if self._process is None:
            return
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self._writer.close()
        if self._listening is not None:
            await asyncio.wait({self._listening})
        self._process = self._listening = None


class Managers:
    """Three of them, on loopback; ``without`` names the safeguard that is taken away from all."""

    def __init__(self, directory, authority, timings, without):
        self.all = [Manager(name, directory, authority.contexts(name), timings, without) for name in NAMES]

    async def start(self):
        for manager in self.all:
            await manager.relay.start()
        first, *others = self.all
        bootstrap(first.directory, first.node_id, first.relay.address)
        await first.start()
        await first.ask("leads")
        voters = await first.ask("voters")
        for manager in others:
            prepare_join(manager.directory, manager.node_id, voters)
        await asyncio.gather(*(manager.start() for manager in others))
        for manager in others:
            await first.ask("add", manager.node_id, manager.relay.address)

    async def close(self):
        for manager in self.all:
            manager.relay.refuse()
        for manager in self.all:
            await manager.kill()
        for manager in self.all:
            await manager.relay.close()

    def others(self, *but):
        return [manager for manager in self.all if manager not in but]

    async def leader(self, among):
        """The first of them that leads."""
        asked = {manager.tell("leads"): manager for manager in among}
        done, waiting = set(), set(asked)
        while not (led := [each for each in done if each.exception() is None]):
            assert waiting, "none of them runs"
            done, waiting = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert done, "none of them leads"
        for each in waiting:
            each.cancel()
        return asked[led[0]]

    def speaking(self, manager):
        """The ways from it to each of the others."""
        return [(manager, other) for other in self.others(manager)]

    def hearing(self, manager):
        """And from each of them to it."""
        return [(other, manager) for other in self.others(manager)]

    def cut(self, *ways):
        """Have what the first of each pair says to the second wait."""
        for speaker, hearer in ways:
            hearer.relay.open[speaker.node_id].clear()

    def mend(self, *ways):
        """Let what waits come through."""
        for speaker, hearer in ways:
            hearer.relay.open[speaker.node_id].set()


@contextlib.asynccontextmanager
async def running(directory, authority, timings, without=""):
    """A cluster of three processes, which end with this."""
    managers = Managers(directory, authority, timings, without)
    try:
        await managers.start()
        yield managers
    finally:
        await managers.close()
