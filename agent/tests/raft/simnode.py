# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated manager: the store's own core, driver and disk, from start to crash and from crash to start."""

from __future__ import annotations

import random  # noqa: TID251 - the seeded dice of a made-up world
from concurrent.futures import Future

from covey.model.errors import Unavailable
from covey.store.raft.core import Core
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Driver
from covey.store.raft.files import SyncFailed
from covey.store.raft.timings import Timings
from tests.raft.oracle import WatchedMachine
from tests.raft.power import PowerFiles
from tests.unit.store.faults import Plug

TIMINGS = Timings()
#: Files of the journal are this short, so that there are many of them.
SEGMENT_BYTES = 4000


class SimNetwork:
    """One node's end."""

    def __init__(self, sim, node):
        self.sim, self.node, self.admitted = sim, node, set()

    def post(self, node_id, message):
        self.sim.oracle.says(self.node.node_id, node_id, message, self.node.voters)
        return self.sim.post(self.node, node_id, message)

    def asked(self):
        return True

    def room(self, node_id):
        pipe = self.sim.pipes[self.node.node_id, node_id]
        return pipe.open and pipe.arrival < self.sim.now + 0.3

    def admit(self, node_id, address):
        self.admitted.add(node_id)

    def expel(self, node_id):
        self.admitted.discard(node_id)
        self.sim.hang_up(self.node.node_id, node_id)
        self.sim.hang_up(node_id, self.node.node_id)


class SimNode:
    """One manager: its directory stays, the rest lives from start to crash."""

    def __init__(self, sim, node_id, initial, peers):
        self.sim, self.node_id, self.initial, self.peers = sim, node_id, initial, peers
        self.directory = sim.directory / node_id
        self.rng = random.Random(f"{sim.seed} {node_id}")
        self.files = PowerFiles(self.directory, self.rng, self._busy)
        self.driver = None
        self.life, self.busy_until = 0, 0.0
        self.retired = self._kicked = False

    # -- life and death

    def start(self):
        """Begin a life; the disk may end it at once."""
        self.life += 1
        self.sim.acting = self
        try:
            self._open()
        except Plug:
            self._lose_power()
        except (OSError, SyncFailed):
            self.disk.release()
        else:
            self.sim.after(self.rng.random() * TIMINGS.tick, self._regular_tick, self.life)

    def _open(self):
        self.disk = Disk(self.directory, self.node_id, self.files, self.rng.randbytes, SEGMENT_BYTES)
        self.disk.open(self.initial)
        self.machine = WatchedMachine(self, self.sim.oracle)
        if self.disk.chunks is not None:
            self.machine.restore(self.disk.chunks)
        self.network = SimNetwork(self.sim, self)
        core = Core(
            self.node_id,
            self.disk.log,
            self.disk.snapshots,
            self.machine,
            self.network,
            peers=self.peers,
            timings=TIMINGS,
            background=self._background,
            policy=self.sim.policy,
        )
        self.driver, self._kicked, self.busy_until = Driver(core), False, 0.0

    @property
    def core(self):
        return self.driver.core

    @property
    def voters(self):
        """Those who vote, as far as it knows."""
        return self.core.voters if self.driver is not None else frozenset({self.node_id})

    def die(self):
        """As by ``kill -9``: what was written stays, synced or not."""
        if self.driver is not None:
            self._end()

    def lose_power(self):
        """What was not synced goes, too."""
        if self.driver is not None:
            self._end()
            self.files.lose_power()

    def stop(self):
        """Leave in good order, as the engine does."""
        if self.driver is None:
            return
        driver = self.driver

        def close():
            self.disk.close()
            driver.abandon(Unavailable("the store has stopped"))

        self.guarded(close)
        self.die()

    def _fail(self):
        """The store stops of itself: everybody who waits is told, nothing more is written."""
        self.driver.abandon(Unavailable("the store has stopped"))
        self._end()

    def _lose_power(self):
        if self.driver is None:
            self.disk.release()
            self.files.lose_power()
        self.lose_power()

    def _end(self):
        self.driver = None
        self.files.at = None
        self.disk.release()
        self.sim.clients.died(self, self.life)
        for other in self.sim.nodes:
            self.sim.pipes[self.node_id, other].open = False
            self.sim.hang_up(other, self.node_id)

    # -- acting

    def guarded(self, act):
        """Do it, unless the power goes or the disk fails in the middle."""
        if self.driver is None:
            return
        before, self.sim.acting = self.sim.acting, self
        try:
            act()
        except Plug:
            self._lose_power()
        except (OSError, SyncFailed):
            self._fail()
        finally:
            self.sim.acting = before

    def _busy(self, seconds):
        self.busy_until = max(self.busy_until, self.sim.now) + seconds

    def freeze(self, seconds):
        """Do nothing for so long, and notice nothing of it."""
        self.busy_until = max(self.busy_until, self.sim.now + seconds)

    def when_free(self, act, *arguments):
        """Call now, or once this process gets round to it; in order."""
        if self.busy_until > self.sim.now:
            self.sim.after(self.busy_until - self.sim.now, self.when_free, act, *arguments)
        else:
            act(*arguments)

    def _background(self, work):
        written, life = Future(), self.life

        def write():
            if self.life == life:
                self.guarded(finish)

        def finish():
            try:
                written.set_result(work())
            except OSError as error:
                written.set_exception(error)

        self.sim.after(self.rng.random() * 0.5, write)
        return written

    def _regular_tick(self, life):
        if life == self.life and self.driver is not None:
            self.when_free(self._tick_of, life)
            self.sim.after(max(TIMINGS.tick, self.busy_until - self.sim.now), self._regular_tick, life)

    def kick(self):
        """Tick once everything that is ready has had its say."""
        if not self._kicked and self.driver is not None:
            self._kicked = True
            self.sim.after(0.0, self.when_free, self._tick_of, self.life)

    def _tick_of(self, life):
        if life == self.life and self.driver is not None:
            self._kicked = False
            self.guarded(self._tick)

    def _tick(self):
        while self.driver.tick():
            pass
        if self.core._isLeader():
            self._lead()
        elif not self.core.stalled:  # a disk that was found full in the middle of this turn: they are told in the next
            self.sim.clients.turned_away(self)
        self.sim.oracle.keeps(self.node_id, self.core)

    def _lead(self):
        oracle = self.sim.oracle
        if self.core.raftCurrentTerm not in oracle.leaders:
            self.sim.after(0.0, self.sim.clients.read_at, self)
        oracle.leads(self.node_id, self.core)
        oracle.goes_on_leading(self.node_id, self.core, self.sim.now)

    def receive(self, node_id, message):
        self.sim.oracle.hears(self.node_id, node_id, message, self.sim.now)
        self.guarded(lambda: self.driver.receive(node_id, message))
        self.kick()
