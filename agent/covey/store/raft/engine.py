# SPDX-License-Identifier: GPL-3.0-or-later
"""The Raft thread: its own event loop, which owns core, sockets and disk; the application only ever posts to it.

Anything unforeseen ends the thread: a half-applied entry must not be tried again, and a disk that failed once is not
believed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.model.errors import CoveyError, FailedPrecondition, NotLeader, Unavailable
from covey.model.secret import Secret
from covey.store.base import Leadership
from covey.store.raft import epoch as epochs
from covey.store.raft.compaction import Policy
from covey.store.raft.core import Core
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Answer, Driver
from covey.store.raft.files import RealFiles, SyncFailed
from covey.store.raft.fulldisk import out_of_room, room_permitting
from covey.store.raft.machine import Machine
from covey.store.raft.membership import Change, check_change, ids_of, node_of
from covey.store.raft.timings import Timings
from covey.store.raft.transport import TlsNetwork
from covey.store.raft.wire import AnyMessage

_log = logging.getLogger(__name__)


#: Seconds for which a change of the members waits for members that do not answer yet.
PATIENCE = 2.0
#: Seconds for which it waits for a newcomer to hold what is committed; who asks again goes on waiting.
CATCH_UP = 8.0
#: Seconds that a leader gives another member to take over, and between two tries to have it do so.
HAND_OVER, NUDGE = 3.0, 0.2


@dataclass(frozen=True, slots=True)
class Published:
    """What the application sees; immutable."""

    state: Any
    leadership: Leadership
    members: Mapping[str, str]
    reachable: frozenset[str]
    trouble: str = ""
    position: tuple[int, int] = (0, 0)


#: Whom to tell what, in the application's thread.
Answers = list[tuple[Answer, Any]]


class Engine:
    """Everything that lives on the Raft thread; all but the constructor and ``run`` is called there only."""

    def __init__(
        self,
        disk: Disk,
        machine: Machine,
        network: TlsNetwork,
        timings: Timings,
        publish: Callable[[Published, Answers], None],
    ) -> None:
        self._disk, self._machine, self._network, self._timings = disk, machine, network, timings
        self._publish = publish
        self._published: Published | None = None
        self._answers: Answers = []
        self._calls: set[asyncio.Task[None]] = set()
        self._kicked = self._stopping = False
        self._driver: Driver
        self._core: Core
        self.loop: asyncio.AbstractEventLoop
        self.failure: BaseException | None = None
        #: How often the thread came round; others may read it.
        self.turns = 0

    # -- life

    async def run(self, listen: tuple[str, int], peers: Mapping[str, str], ready: Future[int]) -> None:
        """Run until ``stop``, or until something fails; then ``failure`` says what."""
        self.loop, self._changing = asyncio.get_running_loop(), asyncio.Lock()
        self._network.handler = self
        with ThreadPoolExecutor(1, thread_name_prefix="raft-snapshot") as pool:
            try:
                self._start(peers, pool)
                ready.set_result(await self._network.listen(*listen))
                while not self._stopping:
                    self.turns += 1
                    self._tick()
                    await asyncio.sleep(self._timings.tick)
            except Exception as error:  # noqa: BLE001 - fail-stop; whoever started the thread is told
                if ready.done():
                    self.fail(error)
                else:
                    self.failure = error
                    ready.set_exception(error)
            await self._leave()

    def _start(self, peers: Mapping[str, str], pool: ThreadPoolExecutor) -> None:
        if self._disk.chunks is not None:
            self._machine.restore(self._disk.chunks)
        known = self._disk.peers() | dict(peers)
        self._network.hints = known | self._network.hints

        def background(work: Callable[[], Path]) -> Future[Path]:
            return pool.submit(work)

        self._core = Core(
            self._disk.log.raft_id,
            self._disk.log,
            self._disk.snapshots,
            self._machine,
            self._network,
            peers=known,
            timings=self._timings,
            background=background,
            policy=Policy(),
        )
        self._driver = Driver(self._core)

    async def _leave(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._network.close()
        try:
            if self.failure is None:
                self._disk.close()
        except Exception as error:  # noqa: BLE001 - fail-stop, at the very end
            self.fail(error)
        finally:
            self._disk.release()
        if hasattr(self, "_driver"):
            self._driver.abandon(Unavailable("the store has stopped; the write may still take effect"))
            self._tell()

    def fail(self, error: BaseException) -> None:
        """End the thread because of ``error``."""
        if self.failure is None:
            self.failure = error
            where = None if isinstance(error, SyncFailed) else error  # a disk's refusal needs no traceback
            _log.critical("the store stops, this manager takes no further part: %s", error, exc_info=where)
        self._stopping = True

    def stop(self) -> None:
        """End the thread in good order."""
        self._stopping = True

    # -- the tick

    def kick(self) -> None:
        """Tick as soon as everything that is ready in this turn of the loop has had its say."""
        if not self._kicked:
            self._kicked = True
            self.loop.call_soon(self._kicked_tick)

    def _kicked_tick(self) -> None:
        self._kicked = False
        try:
            self._tick()
        except Exception as error:  # noqa: BLE001 - fail-stop: a tick is never tried again
            self.fail(error)

    def _tick(self) -> None:
        if self._stopping:
            return
        if self._driver.tick():
            self.kick()
        self._tell()

    # -- calls from the application

    def propose(self, command: bytes, fence: int, answer: Answer) -> None:
        """Put a command of the state machine into the log."""
        self._driver.propose(command, fence, self._later(answer))
        self.kick()

    def barrier(self, answer: Answer) -> None:
        """Answer once the state here is as new as any acknowledged before now."""
        self._driver.barrier(self._later(answer))
        self.kick()

    def add_member(self, node_id: str, address: str, answer: Answer) -> None:
        """Make a node a voter."""
        self._call(self._add_member(node_id, address), self._later(answer))

    def remove_member(self, node_id: str, answer: Answer) -> None:
        """Take a node's vote away."""
        self._call(self._remove_member(node_id), self._later(answer))

    def superseded(self, by: int) -> None:
        """Take no further part, not after a restart either: the cluster has begun a later epoch without us."""
        mine = epochs.read(self._disk.directory)
        if by > max(mine.number, mine.superseded_by):
            with room_permitting():
                epochs.write(self._disk.directory, epochs.Epoch(mine.number, by), RealFiles())
            self.fail(epochs.superseded(by))

    def redial(self) -> None:
        """Show the members our newest certificate."""
        self._network.redial()

    def compact(self) -> None:
        """Take a snapshot now."""
        self._core.compaction.wanted = True
        self.kick()

    def relock(self, version: int, unlock_key: Secret, answer: Answer) -> None:
        """Have the disk open with another key; the old data key goes with the next snapshot."""

        async def work() -> None:
            try:
                fresh = self._disk.relock(version, unlock_key)
            except OSError as error:
                if not out_of_room(error):
                    raise
                raise Unavailable(f"the disk has no room for the key that it is to be locked with: {error}") from error
            self._core.compaction.wanted |= fresh

        self._call(work(), self._later(answer))

    def _later(self, answer: Answer) -> Answer:
        return lambda value: self._answers.append((answer, value))

    def _call(self, work: Coroutine[Any, Any, None], answer: Answer) -> None:
        task = self.loop.create_task(self._run(work, answer), name="raft-membership")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _run(self, work: Coroutine[Any, Any, None], answer: Answer) -> None:
        try:
            await work
            answer(None)
        except CoveyError as error:
            answer(error)
        except asyncio.CancelledError:
            answer(Unavailable("the store has stopped; the change of the managers may still take effect"))
            raise
        except Exception as error:  # noqa: BLE001 - fail-stop: nothing unforeseen happens on this thread
            self.fail(error)
        self._tell()

    async def _add_member(self, node_id: str, address: str) -> None:
        self._require_leadership()
        if ids_of(node_id, self._core.reachable()):
            return
        raft_id = await self._network.probe(node_id, address)
        if raft_id not in self._core.configuration:
            await self._bring_up(raft_id, address)
        async with self._changing:
            self._require_leadership()
            for member in ids_of(node_id, self._core.configuration.keys() - {raft_id}):
                await self._take_vote(member)
            if raft_id in self._core.configuration:
                return
            change = Change(True, raft_id, address)
            await self._check(change)
            self._network.hints[raft_id] = address
            await self._change(change)

    async def _bring_up(self, raft_id: str, address: str) -> None:
        """Have the newcomer hold what was committed a moment ago before anything depends on its word."""
        deadline, core = self.loop.time() + CATCH_UP, self._core
        while self.loop.time() < deadline:
            self._require_leadership()
            core.teach(raft_id, address)
            goal = core.raftCommitIndex
            await asyncio.sleep(self._timings.tick)
            if core.holds(raft_id) >= goal:
                return
        raise Unavailable(
            f"manager {node_of(raft_id)} has not received all of the cluster's state yet "
            f"({core.holds(raft_id)} of {core.raftCommitIndex} entries); it gets its vote then"
        )

    async def _remove_member(self, node_id: str) -> None:
        async with self._changing:
            self._require_leadership()
            for raft_id in ids_of(node_id, self._core.configuration):
                await self._take_vote(raft_id)

    async def _take_vote(self, raft_id: str) -> None:
        change = Change(False, raft_id, self._core.configuration[raft_id])
        if len(self._core.configuration) == 1:
            raise FailedPrecondition("this is the last manager; without it there is no cluster")
        await self._check(change)
        if raft_id == self._core.selfNode.id:
            await self._hand_over()
        await self._change(change)

    async def _check(self, change: Change) -> None:
        """Refuse a change that would cost the majority, but give members that are just connecting a moment."""
        deadline = self.loop.time() + PATIENCE
        while True:
            answering = self._core.answering() | ({change.node_id} if change.add else frozenset())
            try:
                check_change(change, self._core.configuration, answering)
            except FailedPrecondition:
                if self.loop.time() > deadline:
                    raise
                await asyncio.sleep(self._timings.tick)
            else:
                return

    def _require_leadership(self) -> None:
        if not self._core.settled:
            raise self._driver.not_leader()

    async def _hand_over(self) -> None:
        """Have another member lead, since a leader cannot vote itself out; always raises.

        New writes wait meanwhile, so that a follower can have all there is; then the next leader takes them.
        """
        core, term = self._core, self._core.raftCurrentTerm
        deadline = self.loop.time() + HAND_OVER
        nudged = 0.0
        core.paused = True
        try:
            while core.settled and core.raftCurrentTerm == term:
                if self.loop.time() > deadline:
                    raise Unavailable("no other manager has taken the lead yet, so this one keeps its vote for now")
                if self.loop.time() > nudged + NUDGE:
                    core.nudge_heir()
                    nudged = self.loop.time()
                await asyncio.sleep(self._timings.tick)
        finally:
            core.paused = False
        raise NotLeader(None)

    async def _change(self, change: Change) -> None:
        done: asyncio.Future[Any] = self.loop.create_future()
        self._driver.change(change, lambda value: None if done.done() else done.set_result(value))
        self.kick()
        outcome = await done
        if isinstance(outcome, CoveyError):
            raise outcome

    # -- what the network says

    def connected(self, node_id: str) -> None:
        """A member can be spoken to."""
        self._core.connected(node_id)

    def disconnected(self, node_id: str) -> None:
        """Not any more."""
        self._core.disconnected(node_id)

    def receive(self, node_id: str, message: AnyMessage) -> None:
        """A member said something."""
        if not self._stopping:
            self._driver.receive(node_id, message)

    def moved(self, node_id: str, address: str) -> None:
        """A member is now at another address."""
        self._remember(self._network.hints)

    def _remember(self, addresses: Mapping[str, str]) -> None:
        """Keep the addresses for the next start, if there is room: the log has them too, if older."""
        with room_permitting():
            self._disk.save_peers(addresses)

    # -- back to the application

    def _position(self) -> tuple[int, int]:
        """Term and index of the newest entry; seen outside when leadership or state next change."""
        log = self._core.log
        return log[-1][2], log.last

    def _tell(self) -> None:
        """Publish what changed, and the answers with it: who is answered sees the state that the answer speaks of."""
        core = self._core
        members = {id_: self._network.hints.get(id_, address) for id_, address in core.configuration.items()}
        leader = None if core.leader is None else node_of(core.leader)
        leadership = Leadership(core.raftCurrentTerm, leader, core.settled)
        reachable = frozenset(map(node_of, core.reachable())) if core.settled else frozenset()
        trouble = self._driver.trouble
        fresh = Published(self._machine.state(), leadership, members, reachable, trouble, self._position())
        old = self._published
        if old is not None and members != old.members:
            self._remember(members)
        answers, self._answers = self._answers, []
        if (
            answers
            or old is None
            or fresh.state is not old.state
            or (leadership, members, reachable, fresh.trouble)
            != (old.leadership, old.members, old.reachable, old.trouble)
        ):
            self._published = fresh
            self._publish(fresh, answers)
