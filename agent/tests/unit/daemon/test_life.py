# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node comes into a cluster and leaves it; a real store for founding, a still member for the rest."""

import socket

import pytest

from covey.api.bodies import CompleteRequest, InitRequest, JoinRequest
from covey.api.ports import LocalState
from covey.daemon.clock import SystemClock
from covey.daemon.config import Config
from covey.daemon.life import Life
from covey.daemon.places import Places
from covey.model.admission import Admission
from covey.model.errors import AlreadyInCluster, FailedPrecondition, Forbidden, InvalidArgument, NotInCluster
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import ca

NOW = SystemClock().now()
CLUSTER, NODE = "c" * 25, "n" * 25


class StillMember:
    """A member whose parts do nothing."""

    def __init__(self, who, settings) -> None:
        self.who, self.settings, self.log = who, settings, []
        self.settled = True
        self.trouble = ""

    def managing(self):
        return None

    def managers(self):
        return ()

    async def start(self):
        self.log.append("start")

    async def wait_settled(self):
        pass

    async def stop(self):
        self.log.append("stop")

    async def clear(self):
        self.log.append("clear")


class Managers:
    """The managers of a cluster, as seen from outside: they sign whatever comes."""

    def __init__(self) -> None:
        self.root = ca.create_root(NOW)
        self.role, self.refusal = Role.WORKER, None

    def admission(self, csr: bytes) -> Admission:
        if self.refusal:
            raise self.refusal
        leaf = ca.sign(self.root, csr, NODE, self.role, CLUSTER, NOW, 3600.0)
        return Admission(
            node_id=NODE,
            cluster_id=CLUSTER,
            role=self.role,
            certificate=leaf.decode(),
            root_ca=self.root.cert_pem.decode(),
            managers=(),
        )

    async def join(self, addresses, token, csr, hostname):
        return self.admission(csr)

    async def renew(self, who, managers, csr):
        return self.admission(csr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    def __init__(self, path) -> None:
        self.managers, self.members, self.unfit = Managers(), [], None
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
        self.members.append(StillMember(who, settings))
        return self.members[-1]

    def life(self) -> Life:
        return Life(
            self.config, self.places, SystemClock(),
            hostname="here", preflight=self.preflight, outside=self.managers, make_member=self.member,
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
    return JoinRequest(remote_addrs=("10.0.0.1:2377",), token=Secret(b"t"), listen_addr=world.config.listen_addr)


async def test_init_makes_a_manager_that_is_still_one_after_a_restart(world, life):
    node_id = await life.init(InitRequest(listen_addr=world.config.listen_addr))
    report = life.status()
    assert (report.state, report.node_id, report.role) == (LocalState.ACTIVE, node_id, Role.MANAGER)
    await life.stop()
    again = world.life()
    await again.start()
    assert again.status().node_id == node_id


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


async def test_join_with_a_token(world, life):
    await life.join(joining(world))
    assert (life.status().cluster_id, life.status().role) == (CLUSTER, Role.WORKER)
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
    assert world.members[0].log == ["start", "stop", "clear"]
    assert life.status().state is LocalState.INACTIVE
    assert list(world.config.state_dir.iterdir()) == []
    with pytest.raises(NotInCluster):
        await life.leave(force=False)


async def test_a_manager_leaves_only_by_force(world, life):
    await life.init(InitRequest(listen_addr=world.config.listen_addr))
    with pytest.raises(FailedPrecondition, match="demote"):
        await life.leave(force=False)
    await life.leave(force=True)


async def test_a_changed_role_is_a_new_certificate_and_a_new_member(world, life):
    await life.join(joining(world))
    world.managers.role = Role.MANAGER
    await life.change_role()
    assert life.status().role is Role.MANAGER
    assert [member.log for member in world.members] == [["start", "stop"], ["start"]]
    assert world.places.load()[0].role is Role.MANAGER
