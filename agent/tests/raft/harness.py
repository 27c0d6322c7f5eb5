# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: ASYNC109 - waiting has an end
"""A throw-away certificate authority and clusters of real stores on loopback, for the tests of the Raft store."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from covey.model.changes import Batch, Create, Delete
from covey.model.errors import Forbidden, NotLeader, Unavailable
from covey.model.objects import Service
from covey.model.spec import ServiceSpec
from covey.state.codec import CODEC
from covey.store.raft import RaftSettings, RaftStore, Timings, bootstrap, prepare_join

CLUSTER = "cluster000000000000000000"


class Authority:
    """Issues certificates into files of ``directory``."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self._name, self._key.public_key(), authority=True)
        self.root = self.directory / "root.pem"
        self.root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject, public_key, *, authority):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        builder = builder.not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def contexts(self, node_id, cluster=CLUSTER, role="swarm-manager"):
        """The TLS contexts of a node with that certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                x509.NameAttribute(NameOID.COMMON_NAME, node_id),
            ]
        )
        certificate = self._build(subject, key.public_key(), authority=False)
        path = self.directory / f"{node_id}-{role}-{cluster}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return FileContexts(path, self.root)


class FileContexts:
    """Contexts of a certificate and key in one file."""

    def __init__(self, chain: Path, root: Path) -> None:
        self._chain, self._root = chain, root

    def _context(self, protocol):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._chain)
        context.load_verify_locations(self._root)
        return context

    def server(self):
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        return context

    def client(self):
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return context


def identify(tls):
    """The node id in a manager's certificate of our cluster."""
    names = dict(pair for rdn in tls.getpeercert()["subject"] for pair in rdn)
    if names["organizationName"] != CLUSTER or names["organizationalUnitName"] != "swarm-manager":
        raise Forbidden(f"{names} is not a manager of this cluster")
    return names["commonName"]


class Member:
    """One manager: its directory, port and certificate outlive its store."""

    def __init__(self, cluster, node_id):
        self.cluster, self.node_id = cluster, node_id
        self.codec = CODEC
        self.directory = cluster.directory / node_id
        self.port = 0
        self.store: RaftStore | None = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    async def start(self):
        self.port = self.port or free_port()
        settings = RaftSettings(
            self.node_id,
            self.directory,
            ("127.0.0.1", self.port),
            self.address,
            self.cluster.timings,
            codec=self.codec,
        )
        store = RaftStore(settings, self.cluster.authority.contexts(self.node_id), identify)
        await store.start()
        self.store = store
        return store

    async def stop(self):
        if self.store is not None:
            await self.store.stop()
        self.store = None

    async def crash(self):
        """Stop without a last word: nothing is made durable that was not."""
        engine = self.store._engine
        engine.loop.call_soon_threadsafe(engine.fail, RuntimeError("pulled the plug"))
        await self.store.failed()
        await self.stop()


class Cluster:
    """Managers on loopback."""

    def __init__(self, directory, authority, timings=None):
        self.directory, self.authority = directory, authority
        self.timings = timings or Timings()
        self.members: dict[str, Member] = {}
        self._requests = itertools.count()

    def member(self, node_id):
        return self.members.setdefault(node_id, Member(self, node_id))

    async def found(self, node_id="node-a"):
        """Begin a cluster of one."""
        member = self.member(node_id)
        member.port = free_port()
        bootstrap(member.directory, node_id, member.address)
        await member.start()
        return member

    async def join(self, node_id):
        """Add a manager."""
        member = self.member(node_id)
        leader = await self.leader()
        prepare_join(member.directory, node_id, leader.store.voters())
        await member.start()
        await leader.store.add_member(node_id, member.address, 10)
        return member

    async def of(self, size):
        """A cluster of ``size``."""
        await self.found()
        for number in range(1, size):
            await self.join("node-" + "abcde"[number])
        return self

    def running(self):
        return [member for member in self.members.values() if member.store is not None]

    async def leader(self, timeout=10):
        """The one that leads now."""

        def find():
            led = [m for m in self.running() if m.store.leadership().leading]
            return max(led, key=lambda m: m.store.leadership().term, default=None)

        return await eventually(find, timeout)

    async def write(self, name, timeout=10):
        """Create a service, wherever the leader is, repeating as a careful client does; its id."""
        request = f"request-{next(self._requests)}"
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            leader = await self.leader(timeout)
            try:
                await leader.store.propose(create(name, request), 2)
                return name
            except (NotLeader, Unavailable):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.02)

    async def holds(self, member, names, timeout=10):
        """Wait until the member has applied all of them."""
        wanted = set(names)
        await eventually(lambda: wanted <= set(member.store.view().service_names), timeout)

    async def close(self):
        for member in self.members.values():
            await member.stop()


def create(name, request_id="", fence=0):
    """A batch that creates a service of that name and id."""
    return Batch(request_id=request_id, at=1.0, fence=fence, changes=(Create(Service(id=name, spec=spec(name))),))


def delete(name, version, request_id=""):
    """A batch that removes it."""
    return Batch(request_id=request_id, at=1.0, changes=(Delete("service", name, version),))


def spec(name):
    return ServiceSpec(name=name)


async def eventually(condition, timeout=10):
    """The first true value of ``condition``."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (value := condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout} s")
        await asyncio.sleep(0.01)
    return value


def free_port():
    """A port nobody listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
