# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's next life on this node: restored from a backup, or recovered from a lost majority.

Both prepare the new Raft directory beside what counts; nothing of the old state is deleted.  Blocking: for a thread.
"""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path

from covey.api.bodies import RestoreRequest
from covey.control.authority import certify, issuing
from covey.control.cluster import Founder
from covey.control.recovery import recovered, restored
from covey.daemon import addresses
from covey.daemon.places import Places, Settings
from covey.daemon.ports import Member
from covey.model.admission import ManagerInfo
from covey.model.changes import Batch
from covey.model.clock import Clock
from covey.model.errors import FailedPrecondition, NotInCluster
from covey.model.objects import Node
from covey.model.spec import Role
from covey.security import keys
from covey.security.identity import Identity, assemble
from covey.store import backup
from covey.store.raft import epoch as epochs
from covey.store.raft.transplant import Pattern, Root, Voter, extract, plant

log = logging.getLogger(__name__)


def restore(
    places: Places, settings: Settings, request: RestoreRequest, clock: Clock, hostname: str, raft_listen: str
) -> Identity:
    """The backup's cluster with this host as its only manager, in ``forming/``; the caller makes it count."""
    _, view = backup.read(io.BytesIO(request.file), request.passphrase)
    cluster, now = view.cluster, clock.now()
    node_id, key = clock.new_id(), keys.new_key()
    certificate = certify(cluster, Node(id=node_id, role=Role.MANAGER), keys.make_csr(key), now)
    who = assemble(certificate, key, issuing(cluster).trusted)
    address = _server_address(settings)
    places.form(who, settings, (ManagerInfo(node_id=node_id, addr=address),))
    epoch = epochs.following(cluster.epoch, now)
    batch = Batch(clock.new_id(), now, restored(view, Founder(node_id, hostname, address), epoch, now))
    voter = Voter(node_id, addresses.raft_address(settings.advertise, raft_listen))
    plant(places.forming / "raft", voter, Root(view, 0, cluster.epoch), batch, epoch)
    return who


def recover(places: Places, who: Identity, settings: Settings, clock: Clock, raft_listen: str) -> Path:
    """Make this manager, which does not run, the only one; where its Raft directory of before is kept."""
    key = places.lock.unlock_key
    root, now = extract(places.raft, who.node_id, key), clock.now()
    address = _server_address(settings)
    epoch = epochs.following(max(root.epoch, root.view.cluster.epoch), now)
    batch = Batch(clock.new_id(), now, recovered(root.view, who.node_id, address, epoch, now))
    voter = Voter(who.node_id, addresses.raft_address(settings.advertise, raft_listen))
    plant(places.next_raft, voter, root, batch, epoch, Pattern(places.raft, key) if key else None)
    places.resettle(settings, (ManagerInfo(node_id=who.node_id, addr=address),))
    return places.replace_raft(stamp(now))


def recoverable(member: Member | None, places: Places, hostname: str) -> Member:
    """The running member, if recovering it makes sense; else NotInCluster or FailedPrecondition says why not."""
    if member is None:
        raise NotInCluster(
            f"{hostname} is not part of a cluster, so there is nothing to recover: `docker swarm init` without "
            "--force-new-cluster founds one, `covey cluster restore` brings back a backup"
        )
    if member.who.role is not Role.MANAGER or not places.raft.exists():
        raise FailedPrecondition(f"{hostname} is no manager, so it has no state to recover from")
    managing = member.managing()
    leader = managing.store.leadership().leader if managing else None
    if managing and leader and len(managing.store.members()) > 1:
        raise FailedPrecondition(
            f"the managers have a leader, node {leader}, so a majority of them lives and nothing is lost: demote and "
            "remove those that are gone (docker node demote, docker node rm --force). If it was lost just now, try "
            "again in a few seconds"
        )
    return member


def put_away(places: Places, clock: Clock, *, keep: bool) -> None:
    """A node that begins anew in its role forgets the state, but not one that its cluster was recovered without."""
    if not places.raft.exists():
        return
    if not keep and not epochs.read(places.raft).superseded_by:
        places.forget_raft()
        return
    kept = places.keep_raft(stamp(clock.now()))
    log.warning("what this manager knew before the cluster was recovered is kept in %s", kept)


def stamp(now: float) -> str:
    """A name for what is kept from before that moment."""
    return time.strftime("raft-%Y%m%dT%H%M%SZ", time.gmtime(now))


def _server_address(settings: Settings) -> str:
    return addresses.join(settings.advertise, addresses.split(settings.listen)[1])
