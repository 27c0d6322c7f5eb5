# SPDX-License-Identifier: GPL-3.0-or-later
"""How this node comes into a cluster, changes its role and leaves: one such change at a time, durable when it returns.

Each prepares everything beside what counts and makes it count by one rename (``places``); whatever fails before that
leaves the node as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from covey.api.bodies import (
    CompleteRequest,
    FindRequest,
    InitRequest,
    JoinRequest,
    RecoverRequest,
    RestoreRequest,
)
from covey.api.ports import LocalState, Managing, NodeReport
from covey.client.sockets import with_port
from covey.client.wire import JoinCall
from covey.daemon import addresses, recovering, reporting
from covey.daemon.config import Config
from covey.daemon.founding import found
from covey.daemon.places import Places, Settings
from covey.daemon.ports import Member, Outside
from covey.model import errors
from covey.model.admission import Admission, ManagerInfo
from covey.model.clock import Clock
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import identity, keys, lifetime
from covey.security.certificate import Peer
from covey.security.identity import Identity
from covey.worker import book

log = logging.getLogger(__name__)

#: Seconds that init and join wait for the node to be what it has become; it goes on in the background after that.
SETTLE = 20.0


class Life:
    """This node's own life; see ``covey.api.ports.NodeLife``."""

    def __init__(  # noqa: PLR0913 - the parts of a node's life are these
        self,
        config: Config,
        places: Places,
        clock: Clock,
        *,
        hostname: str,
        preflight: Callable[[], Awaitable[None]],
        outside: Outside,
        make_member: Callable[[Identity, Settings], Member],
        clear: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """``clear`` removes the containers of a node of a cluster from the engine of this host."""
        self._config, self._places, self._clock, self._hostname = config, places, clock, hostname
        self._preflight, self._outside, self._make_member = preflight, outside, make_member
        self._clear = clear
        self._member: Member | None = None
        #: Whom the certificate on a locked disk names, and where it is; None if the disk is not locked.
        self._locked: tuple[Peer, Settings] | None = None
        self._changing = asyncio.Lock()

    # -- asking

    def status(self) -> NodeReport:
        """What this node knows of itself without asking anybody."""
        if self._locked is not None:
            return reporting.locked(*self._locked)
        if self._member is None:
            return reporting.outside()
        return reporting.member(self._member, self._settings, self._clock.now())

    def identity(self) -> Identity | None:
        """Who this node is; None while it is in no cluster."""
        return self._member.who if self._member else None

    def managing(self) -> Managing | None:
        """This node as a manager, None if it is not."""
        return self._member.managing() if self._member else None

    def turns(self) -> Mapping[str, int]:
        """How often each part with a thread of its own came round; see ``covey.daemon.watchdog``."""
        return self._member.turns() if self._member else {}

    # -- changing

    async def start(self) -> None:
        """Go on with the life that is on disk, or wait for its unlock key; BadState if it cannot be read."""
        async with self._changing:
            self._places.prepare()
            try:
                loaded = self._places.load()
            except errors.Locked as locked:
                self._locked = self._places.peek()
                log.warning("%s Until then this node is no manager and starts no container", locked)
                return
            if loaded is not None:
                who, settings = loaded
                if who.role is Role.WORKER:  # a demotion may have been cut short
                    recovering.put_away(self._places, self._clock, keep=False)
                await self._become(who, self._at_home(settings))

    async def unlock(self, unlock_key: Secret) -> None:
        """Go on with the life that is on a locked disk; nothing changes if the key is not the right one.

        Nobody waits for a leader here: it may take the next manager to be unlocked.
        """
        async with self._changing:
            if self._locked is None and self._member is None:
                raise errors.NotInCluster(f"{self._hostname} is not part of a cluster")
            if self._locked is None:
                raise errors.Conflict("swarm is not locked")
            await asyncio.to_thread(self._places.open_lock, unlock_key)
            try:
                await self._become(*self._places.load_unlocked())
            except BaseException:
                await self._stop_member()
                raise
            self._locked = None
            log.info("this node is unlocked")

    async def announce_restart(self, within: float) -> None:
        """Have the managers wait for this agent, which is about to restart, ``within`` seconds at most."""
        if self._member is not None:
            await self._member.announce_restart(within)

    async def stop(self) -> None:
        """Stop the agent's parts; containers run on."""
        async with self._changing:
            if self._member is not None:
                await self._member.stop()

    async def init(self, request: InitRequest) -> str:
        """Found a cluster with this node as its only manager; its node id."""
        async with self._changing:
            settings = await self._prepare(request.advertise_addr, request.listen_addr)
            addresses.require_free(settings.listen, self._config.raft_listen_addr)
            who = await found(
                self._places, settings, request, self._clock, self._hostname, self._config.raft_listen_addr
            )
            await self._adopt(who, settings)
        await self._settle()
        log.info("founded cluster %s as node %s", who.cluster_id, who.node_id)
        return who.node_id

    async def restore(self, request: RestoreRequest) -> str:
        """Become the only manager of the cluster in the backup; this node's id in it."""
        async with self._changing:
            report = self.status()
            if report.role is Role.MANAGER:
                raise errors.AlreadyInCluster(
                    f"This node is already part of a swarm: a manager of cluster {report.cluster_id}, which knows more "
                    "than a backup of it. If most other managers are lost for good, go on with this one: `covey "
                    "cluster recover`"
                )
            settings = await self._prepare(request.advertise_addr, request.listen_addr)
            raft = self._config.raft_listen_addr
            addresses.require_free(settings.listen, raft)
            who = await asyncio.to_thread(
                recovering.restore, self._places, settings, request, self._clock, self._hostname, raft
            )
            await self._adopt(who, settings)
        await self._settle()
        log.warning("restored cluster %s as node %s", who.cluster_id, who.node_id)
        return who.node_id

    async def recover(self, request: RecoverRequest) -> str:
        """Become the only manager of this manager's cluster, with all that it knows; this node's id."""
        async with self._changing:
            if self._locked is not None:
                raise errors.Locked
            member = recovering.recoverable(self._member, self._places, self._hostname)
            settings = self._moved(request)
            await member.stop()
            try:
                kept = await asyncio.to_thread(
                    recovering.recover,
                    self._places,
                    member.who,
                    settings,
                    self._clock,
                    self._config.raft_listen_addr,
                )
                self._settings = settings
            finally:
                await self._resume(member.who)
        await self._settle()
        log.warning("recovered cluster %s; the Raft directory of before is %s", member.who.cluster_id, kept)
        return member.who.node_id

    async def find(self, request: FindRequest) -> None:
        """Look for the managers of this node's cluster at these addresses, too; whoever answers proves to be one."""
        async with self._changing:
            if self._locked is not None:
                raise errors.Locked
            if self._member is None:
                raise errors.NotInCluster(f"{self._hostname} is not part of a cluster, so it has no managers to find")
            managers = tuple(ManagerInfo(node_id="", addr=with_port(addr)) for addr in request.addrs)
            self._places.resettle(self._settings, managers)
            self._member.turn_to(managers)
        await self._settle()

    async def join(self, request: JoinRequest) -> None:
        """Join with a token."""
        async with self._changing:
            settings = await self._prepare(request.advertise_addr, request.listen_addr)
            key = identity.keep_pending_key(self._places.joining, keys.new_key())
            call = JoinCall(
                csr=keys.make_csr(key).decode("ascii"),
                token=request.token,
                hostname=self._hostname,
                availability=request.availability,
            )
            await self._accept(await self._outside.join(request.remote_addrs, call), key, settings)
        await self._settle()

    async def request_join(self, advertise_addr: str) -> bytes:
        """A certificate request for a key that is kept until the join is complete."""
        async with self._changing:
            await self._prepare(advertise_addr, "")
            return keys.make_csr(identity.keep_pending_key(self._places.joining, keys.new_key()))

    async def complete_join(self, request: CompleteRequest) -> None:
        """Take an admission that was signed for the pending key."""
        async with self._changing:
            settings = await self._prepare(request.advertise_addr, request.listen_addr)
            key = identity.pending_key(self._places.joining)
            if key is None:
                raise errors.FailedPrecondition(
                    f"{self._hostname} has not asked to join: request a join here first, and have that request admitted"
                )
            await self._accept(request.admission, key, settings)
        await self._settle()

    async def leave(self, force: bool) -> None:
        """Leave the cluster: this node's containers and everything it knew of the cluster go."""
        async with self._changing:
            member = self._member
            who = member.who if member else self._locked[0] if self._locked else None
            if who is None:
                raise errors.NotInCluster(f"{self._hostname} is not part of a cluster")
            if who.role is Role.MANAGER and not force:
                raise errors.FailedPrecondition(
                    f"{self._hostname} is a manager: demote it first, so that its vote is not missed, or force it to go"
                )
            if member is not None and who.role is Role.MANAGER:
                await member.give_up_vote()
            await self._stop_member()
            try:
                await self._clear(who.node_id, who.cluster_id)
            except errors.CoveyError:
                if member is not None:
                    await self._resume(member.who)
                raise
            self._locked = None
            self._places.leave()
            log.info("left cluster %s", who.cluster_id)

    async def renew(self) -> None:
        """Get a new certificate and go on with it; if it is for another role, become that."""
        async with self._changing:
            member = self._member
            if member is None:
                raise errors.NotInCluster(f"{self._hostname} is not part of a cluster, so it has no certificate")
            key = keys.new_key()
            who = _identity(await member.certify(keys.make_csr(key)), key)
            now = self._clock.now()
            if lifetime.trouble(now, who) and not lifetime.trouble(now, member.who):
                raise errors.Unavailable(
                    "the new certificate does not hold by this host's clock, so the one of now is kept: see "
                    "`timedatectl` here and on the managers"
                )
            if who.role is not member.who.role or member.superseded or member.dismissed:
                await self._change_role(member, who)
                return
            self._places.save_identity(who)
            member.renewed(who)
            log.info("the certificate was renewed")

    async def trust(self, root: bytes) -> None:
        """Trust this root alone, which must be one of those trusted so far and the one that certified this node."""
        async with self._changing:
            member = self._member
            if member is None or member.who.root == root:
                return
            if root not in member.who.root:
                raise errors.InvalidArgument("the new root is none that this node trusts")
            who = identity.assemble(member.who.certificate, member.who.key, root)
            self._places.save_identity(who)
            member.renewed(who)
            log.info("only the new root is trusted from now on")

    async def _change_role(self, member: Member, who: Identity) -> None:
        log.info("this node is a %s now", who.role)
        await member.stop()
        anew = who.role is Role.WORKER or bool(member.superseded) or member.dismissed
        if anew:
            self._places.forget_lock()
        self._places.save_identity(who)
        if anew:
            recovering.put_away(self._places, self._clock, keep=bool(member.superseded))
        try:
            await self._become(who, self._settings)
        except errors.CoveyError as error:  # half of a node is none: the agent starts anew from what is on disk
            raise RuntimeError(f"this node cannot go on as a {who.role}: {error}") from error

    # -- inside

    async def _prepare(self, advertise: str, listen: str) -> Settings:
        """What any way into a cluster needs first."""
        report = self.status()
        if report.state is not LocalState.INACTIVE:
            raise errors.AlreadyInCluster(
                'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another '
                f"one. (It is node {report.node_id} of cluster {report.cluster_id}.)"
            )
        await self._preflight()
        wanted = advertise or self._config.advertise_addr
        return Settings(advertise=addresses.advertise_address(wanted), listen=listen or self._config.listen_addr)

    async def _resume(self, who: Identity) -> None:
        try:
            await self._become(who, self._settings)
        except errors.CoveyError as error:
            raise errors.Unavailable(
                f"the parts of this node could not be started again ({error}); what is on its disk is whole: see "
                "that this is mended, then `systemctl restart covey`"
            ) from error

    def _moved(self, request: RecoverRequest) -> Settings:
        old = self._settings
        advertise = addresses.advertise_address(request.advertise_addr) if request.advertise_addr else old.advertise
        return Settings(advertise=advertise, listen=request.listen_addr or old.listen)

    def _at_home(self, settings: Settings) -> Settings:
        """The settings with the address that the configuration names, once the one of old is no longer this host's."""
        address = addresses.at_home(settings.advertise, self._config.advertise_addr)
        if address == settings.advertise:
            return settings
        moved = msgspec.structs.replace(settings, advertise=address)
        self._places.save_settings(moved)
        return moved

    async def _accept(self, admission: Admission, key: Secret, settings: Settings) -> None:
        who = _identity(admission, key)
        if who.role is Role.MANAGER:
            addresses.require_free(settings.listen, self._config.raft_listen_addr)
        self._places.form(who, settings, admission.managers)
        await self._adopt(who, settings)
        log.info("joined cluster %s as node %s (%s)", who.cluster_id, who.node_id, who.role)

    async def _adopt(self, who: Identity, settings: Settings) -> None:
        """Be who ``forming/`` says, and no longer who was here before and lost its identity to somebody's hand."""
        former = book.owner(self._places.worker)
        if former:
            log.warning("what node %s ran here ends, since this host is node %s now", former, who.node_id)
            await self._clear(former, who.cluster_id)
            self._places.forget_worker()
        self._places.adopt()
        await self._become(who, settings)

    async def _become(self, who: Identity, settings: Settings) -> None:
        self._settings = settings
        self._member = self._make_member(who, settings)
        await self._member.start()

    async def _stop_member(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            await member.stop()

    async def _settle(self) -> None:
        """Wait a while until the node is what it has become."""
        if self._member is not None:
            try:
                async with asyncio.timeout(SETTLE):
                    await self._member.wait_settled()
            except TimeoutError:
                log.warning("this node is in its cluster, but no manager has taken it up within %g s", SETTLE)


def _identity(admission: Admission, key: Secret) -> Identity:
    """The identity the admission makes with our key; refuses one that was made for another key or cluster."""
    who = identity.assemble(admission.certificate.encode(), key, admission.root_ca.encode())
    if (who.node_id, who.cluster_id, who.role) != (admission.node_id, admission.cluster_id, admission.role):
        raise errors.InvalidArgument("the certificate says something else than the admission it came with", "Admission")
    return who
