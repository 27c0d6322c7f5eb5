# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come from wire or disk: each decoder takes them, or says no in its own way; never anything else, nor
much memory, nor long.
"""

import base64
import contextlib
import io
import shutil
import struct
import tempfile
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covey.api import decode as api
from covey.api import filters, services
from covey.client import wire as client
from covey.control import cfssl
from covey.model import codec, session
from covey.model.changes import Batch, Create
from covey.model.errors import BadState, CoveyError, InvalidArgument, Locked, NotSigned
from covey.model.objects import Cluster, NodeDescription, Service
from covey.model.secret import Secret
from covey.model.spec import Role, ServiceSpec
from covey.security import ca, external, identity, keys, tokens, unlock
from covey.state.codec import decode_batch, decode_view, encode_batch, encode_view
from covey.state.view import View
from covey.store import backup
from covey.store.raft import epoch
from covey.store.raft.disk import Disk
from covey.store.raft.files import RealFiles
from covey.store.raft.membership import first_entries
from covey.store.raft.seal import STAMP_SIZE
from covey.store.raft.snapshot import Mark, pack, unpack
from covey.store.raft.wire import Ack, Append, Chunk, Frames, Hello, Malformed, PreVoted, encode
from covey.worker.book import ASSIGNMENTS, MANAGERS, Book, Page

#: Bytes of memory for bytes of input; and what any call may cost.
MEMORY = 4 << 20


@dataclass(frozen=True)
class Decoder:
    """``refusals`` are the errors declared; ``samples`` are good."""

    decode: object
    refusals: tuple
    samples: list = field(default_factory=list)


def view():
    cluster = Cluster(id="cluster", root_key=Secret(b"key"))
    service = Service(id="web", spec=ServiceSpec(name="web", labels={"a": "b"}))
    return View(
        index=7, clusters={"cluster": cluster}, services={"web": service}, service_names={"web": "web"},
        requests={"r": (5, ""), "s": (6, "no")},
    )  # fmt: skip


ROOT = ca.create_root(1_800_000_000.0)
LEAF = external.Leaf(keys.make_csr(keys.new_key()), "n" * 25, Role.WORKER, "c" * 25)
SIGNED = ca.sign(ROOT, LEAF.csr, LEAF.node_id, LEAF.role, LEAF.cluster_id, 1_800_000_000.0, 7200.0)
BATCH = Batch(request_id="r", at=1.0, changes=(Create(Service(id="web", spec=ServiceSpec(name="web"))),))
MARK = Mark((b"\x00x", 7, 1), (b"\x00y", 6, 1), {"node": "a:1"})
MESSAGES = [
    Hello("10.0.0.1:2378", b"session!"),
    Append(3, 9, 77, 10, 2, [(b"\x00one", 11, 3), (b"\x00two", 12, 3)]),
    Chunk(3, 9, 78, 100, 2, 0, False, b"state"),
    PreVoted(3, 1, True, "node", "a:1"),
    Ack(3, 77, 13, False, True),
]


def frames(data):
    return Frames().feed(data)


def frame_of(body):
    """A frame as the Raft port takes them, whatever is in it."""
    return struct.pack("<I", len(body) + 1) + encode(MESSAGES[0])[4:5] + body


def from_worker(data):
    return codec.decode(data, session.FromWorker)


def from_dispatcher(data):
    return codec.decode(data, session.FromDispatcher)


def snapshot(data):
    mark, chunks = unpack(iter([data, data]), "it")
    return mark, list(chunks)


def service(data):
    return api.service_spec(api.parse(data, "ServiceSpec"))


def text(parse):
    return lambda data: parse(data.decode("utf-8", "replace"))


def head(header):
    return services._has_credentials(header.encode("ascii", "replace").decode())


WIRE = {
    "raft frames": Decoder(frames, (Malformed,), [encode(message) for message in MESSAGES]),
    "raft frame's body": Decoder(
        lambda data: frames(frame_of(data)), (Malformed,), [encode(message)[5:] for message in MESSAGES]
    ),
    "session, from a worker": Decoder(
        from_worker,
        (msgspec.MsgspecError,),
        [codec.encode(session.Hello(description=NodeDescription(hostname="h"))), codec.encode(session.Heartbeat())],
    ),
    "session, from the dispatcher": Decoder(
        from_dispatcher, (msgspec.MsgspecError,), [codec.encode(session.Assignments(sequence=1, complete=True))]
    ),
    "command": Decoder(decode_batch, (BadState,), [encode_batch(BATCH)]),
    "snapshot's chunks": Decoder(lambda data: decode_view([data, data]), (BadState,), list(encode_view(view()))),
    "snapshot's frames": Decoder(snapshot, (BadState,), list(pack(MARK, encode_view(view())))),
    "join call": Decoder(
        lambda data: client.decode(data, client.JoinCall),
        (InvalidArgument,),
        [client.encode(client.JoinCall(csr="c", token=Secret(b"t")))],
    ),
    "failure": Decoder(lambda data: client.failure(500, data), (), [b'{"message": "m", "code": "NotFound"}']),
    "service body": Decoder(
        service,
        (CoveyError,),
        [b'{"Name": "w", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}, "Mode": {"Replicated": {"Replicas": 2}}}'],
    ),
    "an external CA's answer": Decoder(
        lambda data: cfssl.certificate_in(200, data),
        (NotSigned,),
        [b'{"success": true, "result": {"certificate": "c"}}'],
    ),
    "what an external CA signed": Decoder(
        lambda data: external.check_leaf(data, ROOT.cert_pem, LEAF, 1_800_000_000.0), (NotSigned,), [SIGNED]
    ),
    "filters": Decoder(
        text(lambda given: filters.parse(given, ("name",))), (InvalidArgument,), [b'{"name": {"web": true}}']
    ),
    "registry credentials": Decoder(text(head), (), [base64.urlsafe_b64encode(b'{"username": "u"}')]),
    "join token": Decoder(
        text(tokens.parse_token), (InvalidArgument,), [b"SWMTKN-1-" + b"0" * 50 + b"-" + b"1" * 25]
    ),
    "unlock key": Decoder(
        text(unlock.parse), (InvalidArgument,), [unlock.show(Secret(bytes(32))).encode()]
    ),
    "backup's lines": Decoder(
        lambda data: backup.read_about(io.BytesIO(data)),
        (InvalidArgument,),
        [
            b"covey backup, format 1\n"
            + msgspec.json.encode(
                backup.About(cluster_id="c", index=1, taken_at="t", release="r", salt="00", check="11")
            )
            + b"\n"
        ],
    ),
    "private key": Decoder(lambda data: keys.read_key(Secret(data)), (InvalidArgument,), [keys.new_key().reveal()]),
}  # fmt: skip

DEEP = [b"\x91" * 100_000, b"\x81\xa1x" * 50_000, b"[" * 100_000, b'{"Name":' * 50_000, b'{"x":' * 50_000]
HUGE = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"9" * 5000]


@contextlib.contextmanager
def frugal():
    """Fails if what is done takes more memory than any input here is worth."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak} bytes"


def attempt(decoder, data):
    with frugal(), contextlib.suppress(*decoder.refusals):
        decoder.decode(data)


@pytest.mark.parametrize("name", WIRE)
def test_the_samples_are_good(name):
    for sample in WIRE[name].samples:
        if name not in ("snapshot's chunks", "snapshot's frames"):
            WIRE[name].decode(sample)


@pytest.mark.parametrize("data", [*DEEP, *HUGE], ids=lambda data: repr(data[:8]))
@pytest.mark.parametrize("name", WIRE)
def test_what_is_deep_or_says_that_it_is_huge(name, data):
    decoder = WIRE[name]
    attempt(decoder, data)
    for sample in decoder.samples:
        for place in range(0, len(sample), max(1, len(sample) // 8)):
            attempt(decoder, sample[:place] + data)


@st.composite
def damaged(draw, samples):
    """A good sample with a few bytes changed, put in, taken out, or its end cut."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        place, byte = draw(st.integers(0, len(data))), draw(st.binary(min_size=1, max_size=5))
        how = draw(st.sampled_from(("set", "insert", "delete", "cut")))
        if how == "set":
            data[place : place + len(byte)] = byte
        elif how == "insert":
            data[place:place] = byte
        elif how == "delete":
            del data[place : place + len(byte)]
        else:
            del data[place:]
    return bytes(data)


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", WIRE)
@FUZZ
@given(data=st.data())
def test_damage_and_noise(name, data):
    decoder = WIRE[name]
    attempt(decoder, data.draw(st.one_of(damaged(decoder.samples), st.binary(max_size=200))))


# -- files


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Directories as an agent leaves them: a manager's Raft, an identity, a worker's book, a backup."""
    root = tmp_path_factory.mktemp("places")
    disk = Disk(root / "raft", "node")
    disk.open(first_entries("node", "a:1"))
    disk.log.add(b"\x00command", 3, 1)
    disk.log.sync()
    disk.snapshots.install(disk.snapshots.write(MARK, encode_view(view())), MARK)
    disk.log.restart(MARK.previous, MARK.entry)
    disk.save_peers({"node": "a:1"})
    disk.close()
    epoch.write(root / "raft", epoch.Epoch(3, 5), RealFiles())
    (root / "identity").mkdir(mode=0o700)
    identity.keep_pending_key(root / "identity", keys.new_key())
    book = Book(root / "book", "node")
    book.save(Page(node_id="node"))
    book.save_managers((session.ManagerAddress(node_id="node", address="a:1"),), 3)
    return root


def raft(directory):
    disk = Disk(directory / "raft", "node")
    try:
        disk.open(None)
        for _ in disk.chunks or ():
            pass
        disk.peers()
        epoch.read(directory / "raft")
    finally:
        disk.release()


def own_identity(directory):
    identity.pending_key(directory / "identity")
    identity.load(directory / "identity")
    identity.peek(directory / "identity")


def book(directory):
    page = Book(directory / "book", "node")
    page.load()
    page.load_managers()


READERS = {"raft": raft, "identity": own_identity, "book": book}


def files_of(places):
    return sorted(str(path.relative_to(places)) for path in places.rglob("*") if path.is_file() and path.stat().st_size)


def test_the_files_are_good_as_they_are(places):
    for reader in READERS.values():
        reader(places)
    kinds = {name.split("-")[0] for name in files_of(places)}
    assert kinds >= {f"raft/{name}" for name in ("journal", "hard", "dek", "kek", "snapshot", "peers", "epoch")}
    assert kinds >= {"identity/pending.json", f"book/{ASSIGNMENTS}", f"book/{MANAGERS}"}


@FUZZ
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(places, data):
    """Refused means: BadState, and the directory as it was.

    Locked too: the damage may be that a file says so, and without the unlock key nobody can tell.
    """
    name = data.draw(st.sampled_from(files_of(places)))
    good = (places / name).read_bytes()
    bad = data.draw(st.one_of(damaged([good]), st.binary(max_size=300), st.sampled_from([*DEEP, *HUGE])))
    reader = name.split("/")[0]
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(places / reader, Path(copy) / reader)
        (Path(copy) / name).write_bytes(bad)
        try:
            with frugal():
                READERS[reader](Path(copy))
        except BadState:
            assert (Path(copy) / name).read_bytes() == bad
        except Locked:
            # Not told from a directory that is locked: what says who sealed it is damaged as well.
            assert name == "raft/dek"
            assert bad[16:24] != good[16:24]


def test_a_frame_of_a_snapshot_that_says_it_is_huge(places, tmp_path):
    shutil.copytree(places / "raft", tmp_path / "raft")
    with (tmp_path / "raft" / "snapshot").open("r+b") as file:
        file.seek(8 + STAMP_SIZE)
        file.write(b"\xff\xff\xff\x7f")
    with frugal(), pytest.raises(BadState, match="damaged at frame 0"):
        raft(tmp_path)


def test_a_frame_of_a_backup_that_says_it_is_huge(tmp_path):
    passphrase = Secret(b"correct horse battery")
    pieces = list(backup.write(view(), "t", "r", passphrase, bytes))
    path = tmp_path / "backup"
    path.write_bytes(pieces[0] + b"\xff\xff\xff\x7f" + pieces[1][4:])
    with path.open("rb") as file, pytest.raises(InvalidArgument, match="damaged at frame 1"), frugal():
        backup.read(file, passphrase)


def test_a_backup_whose_salt_and_check_are_odd_is_refused_at_once():
    lines = WIRE["backup's lines"].samples[0].replace(b'"00"', b'"000"').replace(b'"11"', b'"1"')
    with pytest.raises(InvalidArgument, match="second line is damaged"):
        backup.read_about(io.BytesIO(lines))
