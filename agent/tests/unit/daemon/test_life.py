# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node comes into a cluster and leaves it; a real store for founding, a still member for the rest."""

import os
import socket
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from covey.api.bodies import CompleteRequest, FindRequest, InitRequest, JoinRequest, RecoverRequest, RestoreRequest
from covey.api.ports import LocalState
from covey.daemon.clock import SystemClock
from covey.daemon.config import Config
from covey.daemon.life import Life
from covey.daemon.places import Places
from covey.model.admission import Admission
from covey.model.errors import (
    AlreadyInCluster,
    BadState,
    EngineDown,
    FailedPrecondition,
    Forbidden,
    InvalidArgument,
    NotInCluster,
    Unavailable,
)
from covey.model.secret import Secret
from covey.model.spec import Availability, Role
from covey.security import ca
from covey.store import backup
from covey.store.memory import MemoryStore
from covey.store.raft import epoch
from covey.store.raft.files import RealFiles
from covey.store.raft.transplant import extract
from covey.worker.book import Book, Page

NOW = SystemClock().now()
CLUSTER, NODE = "c" * 25, "n" * 25


class StillMember:
    """A member whose parts do nothing."""

    unfit = None

    def __init__(self, who, settings, managers) -> None:
        self.who, self.settings, self.log = who, settings, []
        self.settled, self.refusal, self.trouble, self.superseded, self.dismissed = True, "", "", "", False
        self.cluster, self.manager = managers, None

    def managing(self):
        return self.manager

    def managers(self):
        return ()

    async def certify(self, csr):
        return self.cluster.admission(csr)

    def renewed(self, who):
        self.who = who
        self.log.append("renewed")

    def turn_to(self, managers):
        self.log.append([manager.addr for manager in managers])

    async def start(self):
        if self.unfit:
            raise self.unfit
        self.log.append("start")

    async def wait_settled(self):
        pass

    async def give_up_vote(self):
        self.log.append("give up vote")

    def turns(self):
        return {}

    async def announce_restart(self, within):
        self.log.append(f"announce {within:g}")

    async def stop(self):
        self.log.append("stop")


class Managers:
    """The managers of a cluster, as seen from outside: they sign whatever comes."""

    def __init__(self) -> None:
        self.root = ca.create_root(NOW)
        self.role, self.refusal = Role.WORKER, None
        self.joins, self.trusted, self.ahead = [], b"", 0.0

    def admission(self, csr: bytes) -> Admission:
        if self.refusal:
            raise self.refusal
        leaf = ca.sign(self.root, csr, NODE, self.role, CLUSTER, NOW + self.ahead, 3600.0)
        return Admission(
            node_id=NODE,
            cluster_id=CLUSTER,
            role=self.role,
            certificate=leaf.decode(),
            root_ca=(self.trusted or self.root.cert_pem).decode(),
            managers=(),
        )

    async def join(self, addresses, call):
        self.joins.append(call)
        return self.admission(call.csr.encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Skewed(SystemClock):
    """Shows the time, and what a test adds to it."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class World:
    def __init__(self, path) -> None:
        self.managers, self.members, self.unfit, self.clock = Managers(), [], None, Skewed()
        self.cleared = []
        self.config = Config(
            state_dir=path,
            listen_addr=f"127.0.0.1:{free_port()}",
            raft_listen_addr=f"127.0.0.1:{free_port()}",
            advertise_addr="127.0.0.1",
        )
        self.places = Places(path)

    async def preflight(self) -> None:
        if self.unfit:
            raise self.unfit

    def member(self, who, settings):
        self.members.append(StillMember(who, settings, self.managers))
        return self.members[-1]

    async def clear(self, *node):
        self.cleared.append(node)

    def life(self) -> Life:
        return Life(
            self.config, self.places, self.clock,
            hostname="here", preflight=self.preflight, outside=self.managers, make_member=self.member, clear=self.clear,
        )  # fmt: skip


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "state")


@pytest.fixture
async def life(world):
    life = world.life()
    await life.start()
    return life


def joining(world) -> JoinRequest:
    return JoinRequest(
        remote_addrs=("10.0.0.1:2377",),
        token=Secret(b"t"),
        listen_addr=world.config.listen_addr,
        availability=Availability.DRAIN,
    )


async def test_init_makes_a_manager_that_is_still_one_after_a_restart(world, life):
    node_id = await life.init(InitRequest(listen_addr=world.config.listen_addr))
    report = life.status()
    assert (report.state, report.node_id, report.role) == (LocalState.ACTIVE, node_id, Role.MANAGER)
    await life.stop()
    again = world.life()
    await again.start()
    assert again.status().node_id == node_id


async def restarted_at(world, address):
    world.config = msgspec.structs.replace(world.config, advertise_addr=address)
    again = world.life()
    await again.start()
    await again.stop()
    return again.status().advertise_addr


async def test_a_host_that_moved_is_where_the_configuration_says(world, life):
    """Joined at an address that no host has (RFC 5737), as if that had been this one's once."""
    world.config = msgspec.structs.replace(world.config, advertise_addr="192.0.2.9")
    moved = world.life()
    await moved.start()
    await moved.join(joining(world))
    await moved.stop()
    assert await restarted_at(world, "") == "192.0.2.9"
    assert await restarted_at(world, "127.0.0.1") == "127.0.0.1"
    assert await restarted_at(world, "") == "127.0.0.1"


async def test_an_address_that_is_still_this_hosts_stays(world, life):
    await life.join(joining(world))
    await life.stop()
    assert await restarted_at(world, "127.0.0.2") == "127.0.0.1"


async def test_a_taken_port_stops_init_before_anything_is_made(world, life):
    with socket.socket() as taken:
        host, port = world.config.raft_listen_addr.split(":")
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(FailedPrecondition, match=f"port {port}"):
            await life.init(InitRequest(listen_addr=world.config.listen_addr))
    assert life.status().state is LocalState.INACTIVE
    assert list(world.config.state_dir.iterdir()) == []


async def test_an_unfit_engine_stops_any_way_in(world, life):
    world.unfit = FailedPrecondition("the engine's own swarm mode is active")
    for way in (life.init(InitRequest()), life.join(joining(world)), life.request_join("")):
        with pytest.raises(FailedPrecondition, match="swarm mode"):
            await way


async def test_a_manager_that_leaves_by_force_gives_up_its_vote_first(world, life):
    await life.init(InitRequest(listen_addr=world.config.listen_addr))
    world.members[-1].log.clear()
    await life.leave(force=True)
    assert world.members[-1].log[:2] == ["give up vote", "stop"]
    assert life.status().state is LocalState.INACTIVE


async def test_join_with_a_token(world, life):
    await life.join(joining(world))
    assert (life.status().cluster_id, life.status().role) == (CLUSTER, Role.WORKER)
    (call,) = world.managers.joins
    assert (call.token, call.hostname, call.availability) == (Secret(b"t"), "here", Availability.DRAIN)
    with pytest.raises(AlreadyInCluster, match=CLUSTER):
        await life.join(joining(world))


async def test_a_refused_join_leaves_the_node_free_to_try_again(world, life):
    world.managers.refusal = Forbidden("the token was rotated")
    with pytest.raises(Forbidden):
        await life.join(joining(world))
    assert life.status().state is LocalState.INACTIVE
    world.managers.refusal = None
    await life.join(joining(world))


async def test_join_by_admission(world, life):
    csr = await life.request_join("")
    admission = world.managers.admission(csr)
    await life.complete_join(CompleteRequest(admission=admission, listen_addr=world.config.listen_addr))
    assert life.status().node_id == NODE


async def test_an_admission_for_another_key_is_refused(world, life):
    await life.request_join("")
    other = await World(world.config.state_dir.with_name("other")).life().request_join("")
    with pytest.raises(InvalidArgument, match="key"):
        await life.complete_join(CompleteRequest(admission=world.managers.admission(other)))
    assert life.status().state is LocalState.INACTIVE


async def test_an_admission_without_a_request_is_refused(world, life):
    csr = await World(world.config.state_dir.with_name("other")).life().request_join("")
    with pytest.raises(FailedPrecondition, match="request a join"):
        await life.complete_join(CompleteRequest(admission=world.managers.admission(csr)))


async def test_leaving_stops_clears_and_forgets(world, life):
    await life.join(joining(world))
    await life.leave(force=False)
    assert world.members[0].log == ["start", "stop"]
    assert world.cleared == [(NODE, CLUSTER)]
    assert life.status().state is LocalState.INACTIVE
    assert list(world.config.state_dir.iterdir()) == []
    with pytest.raises(NotInCluster):
        await life.leave(force=False)


async def test_a_node_whose_engine_does_not_answer_stays_until_it_can_end_its_containers(world, life):
    await life.join(joining(world))

    async def no_engine(*node):
        raise EngineDown("it does not answer")

    life._clear = no_engine
    with pytest.raises(EngineDown):
        await life.leave(force=False)
    assert life.status().state is LocalState.ACTIVE
    assert world.places.load() is not None
    life._clear = world.clear
    await life.leave(force=False)
    assert life.status().state is LocalState.INACTIVE


async def test_a_demotion_that_was_cut_short_is_ended_at_the_next_start(world, life):
    await life.join(joining(world))
    await life.stop()
    world.places.raft.mkdir()
    (world.places.raft / "dek").write_bytes(b"of the state")
    await world.life().start()
    assert not world.places.raft.exists()


async def test_what_a_node_of_before_ran_here_ends_once_this_host_is_another_one(world, life):
    """The cluster's directory was moved away by hand, as a message may tell one to."""
    former = Book(world.places.worker, "f" * 25)
    former.directory.mkdir()
    former.save(Page(node_id=former.node_id))
    world.managers.refusal = Forbidden("a wrong token")
    with pytest.raises(Forbidden):
        await life.join(joining(world))
    assert world.cleared == []
    world.managers.refusal = None
    await life.join(joining(world))
    assert world.cleared == [("f" * 25, CLUSTER)]
    assert not former.directory.exists()
    await life.stop()
    await world.life().start()
    assert world.cleared == [("f" * 25, CLUSTER)]


async def test_a_manager_leaves_only_by_force(world, life):
    await life.init(InitRequest(listen_addr=world.config.listen_addr))
    with pytest.raises(FailedPrecondition, match="demote"):
        await life.leave(force=False)
    await life.leave(force=True)


async def test_a_changed_role_is_a_new_certificate_and_a_new_member(world, life):
    await life.join(joining(world))
    world.managers.role = Role.MANAGER
    await life.renew()
    assert life.status().role is Role.MANAGER
    assert [member.log for member in world.members] == [["start", "stop"], ["start"]]
    assert world.places.load()[0].role is Role.MANAGER


async def test_a_node_that_cannot_go_on_in_its_new_role_ends_the_agent(world, life, monkeypatch):
    await life.join(joining(world))
    world.managers.role = Role.MANAGER
    monkeypatch.setattr(StillMember, "unfit", FailedPrecondition("port 2377 is taken"))
    with pytest.raises(RuntimeError, match="cannot go on as a manager: port 2377"):
        await life.renew()


async def test_a_renewal_changes_the_certificate_and_stops_nothing(world, life):
    await life.join(joining(world))
    before = life.identity()
    await life.renew()
    assert [member.log for member in world.members] == [["start", "renewed"]]
    kept, _ = world.places.load()
    assert kept == life.identity()
    assert kept.certificate != before.certificate
    assert (kept.node_id, kept.role) == (before.node_id, before.role)


@pytest.mark.parametrize("ahead", [86_400.0, -86_400.0])
async def test_a_certificate_that_does_not_hold_by_the_own_clock_is_not_taken(world, life, ahead):
    """The clock of the manager that signs is wrong, or this one."""
    await life.join(joining(world))
    before = life.identity()
    world.managers.ahead = ahead
    with pytest.raises(Unavailable, match="timedatectl"):
        await life.renew()
    assert life.identity() == before == world.places.load()[0]
    world.clock.ahead = ahead
    await life.renew()
    assert life.identity() != before


async def test_a_renewal_that_fails_leaves_the_certificate_there_is(world, life):
    await life.join(joining(world))
    before = life.identity()
    world.managers.refusal = Forbidden("node was removed")
    with pytest.raises(Forbidden):
        await life.renew()
    assert life.identity() == before == world.places.load()[0]
    await life.leave(force=False)
    with pytest.raises(NotInCluster):
        await life.renew()


async def test_one_of_two_roots_is_dropped_on_disk_and_at_work(world, life):
    await life.join(joining(world))
    old, new = world.managers.root, ca.create_root(NOW)
    world.managers.root, world.managers.trusted = new, old.cert_pem + new.cert_pem
    await life.renew()
    assert life.identity().root == old.cert_pem + new.cert_pem
    await life.trust(new.cert_pem)
    assert life.identity().root == world.places.load()[0].root == new.cert_pem
    assert world.members[0].log == ["start", "renewed", "renewed"]
    await life.trust(new.cert_pem)
    assert world.members[0].log == ["start", "renewed", "renewed"]


async def test_no_root_is_added_by_word_and_not_the_one_that_certified_this_node_dropped(world, life):
    await life.join(joining(world))
    old, new = world.managers.root, ca.create_root(NOW)
    with pytest.raises(InvalidArgument, match="none that this node trusts"):
        await life.trust(new.cert_pem)
    world.managers.trusted = old.cert_pem + new.cert_pem
    await life.renew()
    with pytest.raises(InvalidArgument, match="not signed by the root"):
        await life.trust(new.cert_pem)
    assert life.identity() == world.places.load()[0]
    assert life.identity().root == old.cert_pem + new.cert_pem


async def test_a_node_that_was_away_for_too_long_says_so_and_may_leave(world, life):
    await life.join(joining(world))
    assert life.status().state is LocalState.ACTIVE
    world.clock.ahead = 3601.0
    report = life.status()
    assert report.state is LocalState.ERROR
    assert "certificate ended" in report.error
    assert "join anew" in report.error
    world.clock.ahead = -7300.0
    assert "the clock is wrong" in life.status().error
    await life.leave(force=False)
    assert life.status().state is LocalState.INACTIVE


async def test_a_node_the_managers_refuse_says_so(world, life):
    await life.join(joining(world))
    world.members[0].refusal = "it was removed; leave with force, then join anew"
    report = life.status()
    assert (report.state, report.error) == (LocalState.ERROR, "it was removed; leave with force, then join anew")


# -- another life of the cluster

PASSPHRASE = Secret(b"correct horse battery")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(backup, "_SCRYPT", {"n": 2, "r": 8, "p": 1})


async def founded(world, life) -> str:
    """The node id of the founder, whose agent has stopped its parts."""
    node_id = await life.init(InitRequest(listen_addr=world.config.listen_addr))
    world.members[-1].log.clear()
    return node_id


def state(world, node_id):
    return extract(world.places.raft, node_id)


def restoring(world, view, **parts) -> RestoreRequest:
    file = b"".join(backup.write(view, "2026-11-26T03:12:00Z", "0.1.0", PASSPHRASE, os.urandom))
    return RestoreRequest(**{"file": file, "passphrase": PASSPHRASE, "listen_addr": world.config.listen_addr, **parts})


@pytest.fixture
def empty(tmp_path):
    """Another host, in no cluster."""
    return World(tmp_path / "empty")


async def test_a_restored_cluster_is_the_same_one_with_this_host_as_its_only_manager(world, life, empty):
    old = await founded(world, life)
    before = state(world, old).view
    restored = empty.life()
    await restored.start()
    new = await restored.restore(restoring(empty, before))
    who, _ = empty.places.load()
    assert (who.node_id, who.cluster_id, who.role) == (new, before.cluster.id, Role.MANAGER)
    assert who.root == before.cluster.root_certificate
    after = state(empty, new)
    assert after.epoch == after.view.cluster.epoch > 1_700_000_000
    assert after.view.cluster.worker_token == before.cluster.worker_token
    nodes = after.view.nodes
    assert (nodes[new].manager_address, nodes[new].spec.role) == (empty.config.listen_addr, Role.MANAGER)
    assert (nodes[old].manager_address, nodes[old].spec.role) == ("", Role.WORKER)


@pytest.mark.parametrize(
    ("parts", "words"),
    [({"passphrase": Secret(b"something else")}, "passphrase is not the one"), ({"file": b"nonsense"}, "no backup")],
)
async def test_what_cannot_be_restored_changes_nothing(world, life, empty, parts, words):
    view = state(world, await founded(world, life)).view
    other = empty.life()
    await other.start()
    with pytest.raises(InvalidArgument, match=words):
        await other.restore(restoring(empty, view, **parts))
    assert other.status().state is LocalState.INACTIVE
    assert list(empty.config.state_dir.iterdir()) == []


async def test_where_the_root_s_key_is_not_in_the_backup_a_host_without_certificate_cannot_restore_it(
    world, life, empty
):
    view = state(world, await founded(world, life)).view
    cluster = msgspec.structs.replace(view.cluster, root_key=Secret(b""))
    keyless = replace(view, clusters={cluster.id: cluster})
    other = empty.life()
    await other.start()
    with pytest.raises(FailedPrecondition, match="covey cluster recover"):
        await other.restore(restoring(empty, keyless))
    assert other.status().state is LocalState.INACTIVE


async def test_a_host_that_is_in_a_cluster_is_not_restored_over(world, life):
    view = state(world, await founded(world, life)).view
    with pytest.raises(AlreadyInCluster, match="covey cluster recover"):
        await life.restore(restoring(world, view))
    assert world.members[-1].log == []


async def test_a_recovered_manager_is_alone_with_its_state_and_keeps_the_old_directory(world, life):
    node_id = await founded(world, life)
    before = state(world, node_id)
    assert await life.recover(RecoverRequest()) == node_id
    assert [member.log for member in world.members] == [["stop"], ["start"]]
    after = state(world, node_id)
    assert after.epoch == after.view.cluster.epoch > before.epoch == 0
    assert after.view.nodes[node_id].manager_address == before.view.nodes[node_id].manager_address
    (kept,) = world.places.kept.iterdir()
    assert extract(kept, node_id) == before


async def test_a_recovery_may_change_the_address(world, life):
    node_id = await founded(world, life)
    await life.recover(RecoverRequest(advertise_addr="127.0.0.2"))
    port = world.config.listen_addr.split(":")[1]
    assert world.members[-1].settings.advertise == "127.0.0.2"
    assert state(world, node_id).view.nodes[node_id].manager_address == f"127.0.0.2:{port}"
    assert world.places.first_managers()[0].addr == f"127.0.0.2:{port}"
    with pytest.raises(InvalidArgument, match="not an IP address"):
        await life.recover(RecoverRequest(advertise_addr="nowhere"))


async def test_a_recovery_that_fails_leaves_the_manager_as_it_was(world, life):
    await founded(world, life)
    (world.places.raft / "hard").write_bytes(b"damaged")
    with pytest.raises(BadState, match="hard"):
        await life.recover(RecoverRequest(advertise_addr="127.0.0.2"))
    assert [member.log for member in world.members] == [["stop"], ["start"]]
    assert world.members[-1].settings.advertise == "127.0.0.1"
    assert not world.places.kept.exists()


async def test_nothing_is_recovered_where_a_majority_lives(world, life):
    await founded(world, life)
    store = MemoryStore("leader")
    await store.add_member("another", "x:1", 1.0)
    world.members[-1].manager = SimpleNamespace(store=store)
    with pytest.raises(FailedPrecondition, match="node leader, so a majority of them lives"):
        await life.recover(RecoverRequest())
    assert world.members[-1].log == []
    store.depose()
    await life.recover(RecoverRequest())


async def test_only_a_manager_can_be_recovered(world, life):
    with pytest.raises(NotInCluster, match="nothing to recover"):
        await life.recover(RecoverRequest())
    await life.join(joining(world))
    with pytest.raises(FailedPrecondition, match="no manager"):
        await life.recover(RecoverRequest())


@pytest.mark.parametrize("role", [Role.WORKER, Role.MANAGER])
async def test_a_superseded_manager_says_so_and_begins_anew_with_its_state_put_aside(world, life, role):
    world.managers.role = role
    node_id = await founded(world, life)
    world.members[-1].superseded = "the cluster was recovered without this manager"
    report = life.status()
    assert (report.state, report.error) == (LocalState.ERROR, "the cluster was recovered without this manager")
    await life.renew()
    assert life.status().role is role
    assert not world.places.raft.exists()
    (kept,) = world.places.kept.iterdir()
    assert extract(kept, node_id).view.nodes[node_id].spec.role is Role.MANAGER


@pytest.mark.parametrize("role", [Role.WORKER, Role.MANAGER])
async def test_a_manager_that_lost_its_vote_begins_anew_as_what_it_is_now(world, life, role):
    """It may have been promoted again before it heard that it was demoted."""
    world.managers.role = role
    await founded(world, life)
    world.places.lock.guard = Secret(b"of the Raft directory that goes")
    world.members[-1].dismissed = True
    await life.renew()
    assert life.status().role is role
    assert not world.places.raft.exists()
    assert not world.places.kept.exists()
    assert world.places.load() is not None, "nothing is sealed with what is gone"
    assert [member.log for member in world.members] == [["stop"], ["start"]]


async def test_a_later_epoch_that_only_the_disk_knows_of_counts_too(world, life):
    await founded(world, life)
    epoch.write(world.places.raft, epoch.Epoch(0, superseded_by=1), RealFiles())
    await life.renew()
    assert len(list(world.places.kept.iterdir())) == 1


async def test_a_node_whose_managers_moved_is_told_where_they_are(world, life):
    with pytest.raises(NotInCluster):
        await life.find(FindRequest(addrs=("10.0.0.9",)))
    await life.join(joining(world))
    await life.find(FindRequest(addrs=("10.0.0.9", "[::1]:4000")))
    assert world.members[-1].log == ["start", ["10.0.0.9:2377", "[::1]:4000"]]
    assert [manager.addr for manager in world.places.first_managers()] == ["10.0.0.9:2377", "[::1]:4000"]
