# SPDX-License-Identifier: GPL-3.0-or-later
"""The running parts of a node that is in a cluster: the worker, and on a manager the store, the server and control."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from covey.api.http import Request, Response
from covey.client.authorities import Authorities
from covey.client.channel import Connector
from covey.client.managers import Managers, try_each
from covey.control.authority import tls_of
from covey.control.issuer import Issuer
from covey.control.roster import managers_of
from covey.daemon import addresses
from covey.daemon.certifying import certify
from covey.daemon.config import Config
from covey.daemon.locking import DiskLock
from covey.daemon.places import Places, Settings
from covey.daemon.raft import open_store
from covey.daemon.renewal import Renewals
from covey.daemon.supervisor import Supervisor
from covey.daemon.vote import Seat, Vote
from covey.executor.docker import DockerExecutor
from covey.executor.translate import Owner
from covey.manager.forward import forwarder
from covey.manager.manager import Manager
from covey.manager.server import ClusterServer, Services
from covey.model.admission import Admission, ManagerInfo
from covey.model.clock import Clock
from covey.model.errors import CoveyError, Superseded
from covey.model.session import ManagerAddress
from covey.model.spec import Role
from covey.network.kernel import IpTables, KernelRefused
from covey.plan.pipeline import settle
from covey.security import lifetime, tls
from covey.security.identity import Identity
from covey.store.raft import RaftStore, prepare_join
from covey.worker.book import Book
from covey.worker.files import TaskFiles
from covey.worker.worker import Callbacks, Worker

log = logging.getLogger(__name__)

#: Seconds between tries to get this manager's vote.
RETRY = 1.0
#: Seconds between looks at whether the node is settled.
LOOK = 0.05

Answer = Callable[[Request], Awaitable[Response]]


class Member:
    """See ``covey.daemon.ports.Member``."""

    def __init__(  # noqa: PLR0913 - the wiring of a node takes all of its surroundings
        self,
        who: Identity,
        settings: Settings,
        config: Config,
        places: Places,
        clock: Clock,
        *,
        supervisor: Supervisor,
        answer_as_leader: Answer,
        renewals: Renewals,
    ) -> None:
        self.who = who
        self._settings, self._config, self._places, self._clock = settings, config, places, clock
        self._supervisor, self._answer, self._renewals = supervisor, answer_as_leader, renewals
        self._context = tls.client_context(who)
        self._client = Managers(lambda: self._context)
        self._connector = Connector(lambda: self._context)
        self._owner = Owner(who.node_id, who.cluster_id)
        self._own_address = addresses.join(settings.advertise, addresses.split(settings.listen)[1])
        self._worker = self._make_worker()
        self._manager: Manager | None = None
        self._server: ClusterServer | None = None
        self._store: RaftStore | None = None
        self._vote: Vote | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._manager_tasks: list[asyncio.Task[Any]] = []
        self.superseded, self.dismissed = "", False

    def _make_worker(self) -> Worker:
        seeds = [ManagerAddress(node_id=m.node_id, address=m.addr) for m in self._places.first_managers()]
        return Worker(
            executor=DockerExecutor(self._owner, self._config.engine),
            book=Book(self._places.worker, self.who.node_id),
            files=_task_files(self._config),
            connector=self._connector,
            clock=self._clock,
            callbacks=Callbacks(
                role_wanted=self._role_wanted,
                refused=self._refused,
                epoch=self._heard_epoch,
                certificate_wanted=self._renewals.want,
                root_changed=self._renewals.trust,
                tls=lambda: tls_of(self.who),
            ),
            seeds=seeds,
            packets=IpTables(),
        )

    # -- asking

    def managing(self) -> Manager | None:
        """This node as a manager, None if it is not (yet)."""
        return self._manager

    def turns(self) -> Mapping[str, int]:
        """How often the Raft thread came round, where there is one."""
        turns = self._store.turns if self._store is not None else None
        return {} if turns is None else {"Raft thread": turns}

    def managers(self) -> tuple[ManagerInfo, ...]:
        """The managers one may turn to, as far as this node knows."""
        if self._store is not None and self._store.view().nodes:
            known = managers_of(self._store.view())
        else:
            known = self._worker.managers
        return tuple(ManagerInfo(node_id=m.node_id, addr=m.address) for m in known)

    @property
    def settled(self) -> bool:
        """A manager has taken this node up, and if it is a manager itself, it has its vote."""
        voting = self.who.role is Role.WORKER or (self._store is not None and self._store.votes)
        return voting and bool(self._worker.standing.session_id)

    @property
    def trouble(self) -> str:
        """What keeps this manager's store from taking part."""
        return self._store.trouble() if self._store is not None else ""

    @property
    def refusal(self) -> str:
        """Why the managers will have nothing to do with this node; empty if they do."""
        return self._worker.standing.refusal

    async def wait_settled(self) -> None:
        """Return once ``settled``."""
        while not self.settled:  # noqa: ASYNC110 - of two rooms that know nothing of each other's events
            await asyncio.sleep(LOOK)

    def turn_to(self, managers: Sequence[ManagerInfo]) -> None:
        """Try these managers, too, while none has taken this node up."""
        self._worker.turn_to(ManagerAddress(node_id=m.node_id, address=m.addr) for m in managers)

    async def give_up_vote(self) -> None:
        """Have the others do without this manager, as far as they can."""
        if self._vote is not None:
            await self._vote.give_up()

    # -- its certificate

    async def certify(self, csr: bytes) -> Admission:
        """A new certificate for this node."""
        return await certify(self._manager, self._client, self.managers(), self.who.node_id, csr)

    def renewed(self, who: Identity) -> None:
        """Show the new certificate to each new connection, and make those that last anew before they are let go."""
        moves, self.who = who.certificate != self.who.certificate, who
        self._context = tls.client_context(who)
        self._worker.certificate_changed(moves=moves)
        if moves and self._store is not None:
            self._store.redial()

    # -- life

    async def start(self) -> None:
        """Start every part; what takes a while goes on in the background."""
        if self.who.role is Role.MANAGER and self._places.raft.exists():
            await self._start_manager()
        elif self.who.role is Role.MANAGER:
            self._run("first start as manager", self._first_start(), endless=False)
        self._run("worker", self._worker.run())

    async def _first_start(self) -> None:
        """Learn who votes, from whichever manager answers first, however long that takes; then start."""
        while True:
            addrs = [m.addr for m in (*self._places.first_managers(), *self.managers())]
            try:
                known = await try_each(addrs, self._client.raft_members)
                break
            except CoveyError as error:
                log.warning("this manager cannot start yet: %s", error)
                await asyncio.sleep(RETRY)
        await asyncio.to_thread(prepare_join, self._places.raft, self.who.node_id, known.members, known.epoch)
        await self._start_manager()

    async def _start_manager(self) -> None:
        raft = self._config.raft_listen_addr
        key = self._places.lock.unlock_key
        store = open_store(self.who, self._places.raft, self._settings.advertise, raft, lambda: self.who, key)
        try:
            await store.start()
        except Superseded as end:
            await self._retire(end)
            return
        self._store = store
        self._run("store", self._watch(store))
        outside = Authorities(lambda root: tls.authority_context(self.who, root))
        issuer = Issuer(outside, self._clock)
        self._manager = Manager(store, self._clock, settle, forwarder(self._client), issuer)
        self._server = ClusterServer(self._services(store, self._manager))
        await self._server.start(*addresses.split(self._settings.listen))
        self._run_while_managing("manager", self._manager.run())
        mine = addresses.raft_address(self._settings.advertise, raft)
        seat = Seat(self.who.node_id, self._own_address, mine)
        self._vote = Vote(store, self._manager.membership, self._client, seat, self._others)
        self._run_while_managing("vote", self._follow_vote(self._vote), endless=False)
        self._run_while_managing("leader hints", self._hint(store))
        lock = DiskLock(store, self._places, lambda: self.who, self._renewals.want)
        self._run_while_managing("disk lock", lock.follow())

    async def _follow_vote(self, vote: Vote) -> None:
        await vote.lost()
        log.warning("the others have taken this manager's vote away; a new certificate says what this node is now")
        self.dismissed = True
        self._renewals.want()

    def _others(self) -> list[str]:
        return [each.addr for each in self.managers() if each.node_id != self.who.node_id]

    def _services(self, store: RaftStore, manager: Manager) -> Services:
        return Services(
            identity=lambda: self.who,
            store=store,
            clock=self._clock,
            signer=manager.signer,
            dispatcher=manager.dispatcher,
            voting=manager.membership,
            answer_as_leader=self._answer,
            managers=self._client,
        )

    async def _hint(self, store: RaftStore) -> None:
        """Tell the worker when another manager leads, sooner than it would notice by itself.

        If it is this one that leads, it needs nobody any more to replace a certificate that has ended.
        """
        waiter, leader = store.changed(), store.leadership().leader
        while True:
            await waiter.wait()
            if store.leadership().leader != leader:
                leader = store.leadership().leader
                if store.leadership().leading and lifetime.trouble(self._clock.now(), self.who):
                    self._renewals.want()
                self._worker.leader_changed()

    async def _watch(self, store: RaftStore) -> None:
        """Whatever ends the store ends the agent, except that the cluster goes on without this manager."""
        end = await store.failed()
        if not isinstance(end, Superseded):
            raise end
        await self._retire(end)
        await asyncio.Event().wait()

    async def _retire(self, end: Superseded) -> None:
        """Be a manager no longer; a new certificate says what this node is now, once there is somebody to sign it."""
        log.error("%s", end)
        self.superseded = str(end)
        await self._stop_manager()
        if self._worker.standing.session_id:
            self._renewals.want()

    def _heard_epoch(self, epoch: int) -> None:
        """A manager's word, through the worker's session: this node's own manager may not have heard."""
        if self.superseded:
            self._renewals.want()
        elif self._store is not None:
            self._store.supersede(epoch)

    def _run_while_managing(self, name: str, work: Coroutine[Any, Any, Any], *, endless: bool = True) -> None:
        self._run(name, work, endless=endless)
        self._manager_tasks.append(self._tasks[-1])

    def _run(self, name: str, work: Coroutine[Any, Any, Any], *, endless: bool = True) -> None:
        self._tasks.append(self._supervisor.start(f"{name} of node {self.who.node_id}", work, endless=endless))

    async def announce_restart(self, within: float) -> None:
        """Have the managers wait for this agent, which is about to restart."""
        await self._worker.announce_restart(within)

    async def stop(self) -> None:
        """Stop every part; containers run on."""
        if self._manager is not None:
            await self._manager.dispatcher.close()
        await self._supervisor.end(self._tasks)
        self._tasks.clear()
        await self._stop_manager()
        await self._connector.close()
        await self._client.close()

    async def _stop_manager(self) -> None:
        """Stop what makes this node a manager."""
        server, store = self._server, self._store
        self._manager = self._server = self._store = self._vote = None
        await self._supervisor.end(self._manager_tasks)
        if server is not None:
            await server.stop()
        if store is not None:
            await store.stop()

    # -- what the worker hears

    def _role_wanted(self, role: Role) -> None:
        """A new certificate says the new role."""
        if role is not self.who.role:
            log.info("this node shall become a %s", role)
            self._renewals.want()

    def _refused(self, reason: str) -> None:
        log.error("the managers refuse this node: %s", reason)


def _task_files(config: Config) -> TaskFiles:
    return TaskFiles(config.runtime_dir / "tasks")


async def clear(owner: Owner, config: Config) -> None:
    """Remove a node's containers, their secrets, and what leads to their ports; nothing of it may run any more."""
    executor = DockerExecutor(owner, config.engine)
    try:
        for container in (await executor.containers()).values():
            await executor.stop(container.id, 0.0)
            await executor.remove(container.id)
    finally:
        await executor.close()
    await asyncio.to_thread(_task_files(config).sweep, ())
    try:
        await IpTables().clear()
    except KernelRefused as error:
        log.warning("the packet filter is left as it is: %s", error)
