# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity on disk: whole or refused, never mixed, never deleted."""

import json
import os
from pathlib import Path

import pytest

from covey.model import errors
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security import identity, keys

from .conftest import DAY, NOW, Cluster


def put(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_nothing_there_is_no_identity(tmp_path: Path) -> None:
    assert identity.load(tmp_path / "absent") is None
    assert identity.load(tmp_path) is None
    assert identity.pending_key(tmp_path) is None


def test_what_is_saved_is_loaded(tmp_path: Path, ours: Cluster) -> None:
    node = ours.node(1, Role.MANAGER)
    identity.save(tmp_path / "node", node)
    loaded = identity.load(tmp_path / "node")
    assert loaded == node
    assert loaded is not None
    assert (loaded.cluster_id, loaded.role, loaded.not_after) == (ours.cluster_id, Role.MANAGER, NOW + 90 * DAY)


def test_only_the_owner_may_read(tmp_path: Path, ours: Cluster) -> None:
    directory = tmp_path / "node"
    directory.mkdir(mode=0o755)
    previous = os.umask(0)
    try:
        identity.keep_pending_key(directory, keys.new_key())
        pending_mode = (directory / "pending.json").stat().st_mode & 0o777
        identity.save(directory, ours.node(1, Role.WORKER))
    finally:
        os.umask(previous)
    assert pending_mode == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "identity.json").stat().st_mode & 0o777 == 0o600


def test_an_identity_hides_its_key(ours: Cluster) -> None:
    node = ours.node(1, Role.WORKER)
    assert node.key.reveal().decode().splitlines()[1] not in repr(node)


def test_a_renewed_certificate_replaces_the_old_one(tmp_path: Path, ours: Cluster) -> None:
    identity.save(tmp_path, ours.node(1, Role.WORKER))
    renewed = ours.node(1, Role.MANAGER, now=NOW + DAY)
    identity.save(tmp_path, renewed)
    assert identity.load(tmp_path) == renewed
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["identity.json"]


def test_a_crash_in_the_middle_of_a_save_leaves_the_old_one_whole(tmp_path: Path, ours: Cluster) -> None:
    node, renewed = ours.node(1, Role.WORKER), ours.node(1, Role.WORKER)
    identity.save(tmp_path, node)
    put(tmp_path / "identity.json.new", '{"Version": 1, "Certif')
    assert identity.load(tmp_path) == node
    identity.save(tmp_path, renewed)
    assert identity.load(tmp_path) == renewed


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_refused_and_kept(tmp_path: Path, ours: Cluster, keep: int) -> None:
    identity.save(tmp_path, ours.node(1, Role.WORKER))
    path = tmp_path / "identity.json"
    cut = path.read_bytes()[:keep]
    path.write_bytes(cut)
    with pytest.raises(errors.BadState, match=r"identity\.json: truncated.*Nothing was deleted"):
        identity.load(tmp_path)
    assert path.read_bytes() == cut


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"Version": "1"}', "\x00" * 100, '{"Version":1,"Bogus":2}'])
def test_a_foreign_file_is_refused(tmp_path: Path, text: str) -> None:
    put(tmp_path / "identity.json", text)
    with pytest.raises(errors.BadState, match="not Covey's"):
        identity.load(tmp_path)


def test_a_later_format_asks_for_the_later_release(tmp_path: Path) -> None:
    put(tmp_path / "identity.json", '{"Version": 2, "New": true}')
    with pytest.raises(errors.BadState, match="format 2, this release knows 1"):
        identity.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "message"),
    [("Key", "key does not belong"), ("Root", "not signed by the root"), ("Certificate", "not signed by the root")],
)
def test_parts_of_two_identities_are_refused(
    tmp_path: Path, ours: Cluster, foreign: Cluster, field: str, message: str
) -> None:
    identity.save(tmp_path / "a", ours.node(1, Role.WORKER))
    identity.save(tmp_path / "b", foreign.node(1, Role.WORKER))
    path = tmp_path / "a" / "identity.json"
    mixed = json.loads(path.read_bytes())
    mixed[field] = json.loads((tmp_path / "b" / "identity.json").read_bytes())[field]
    put(path, json.dumps(mixed))
    with pytest.raises(errors.BadState, match=rf"identity\.json: .*{message}"):
        identity.load(tmp_path / "a")


def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path, ours: Cluster) -> None:
    identity.save(tmp_path, ours.node(1, Role.WORKER))
    path = tmp_path / "identity.json"
    content = json.loads(path.read_bytes())
    content["Key"] = content["Key"].replace("M", "N")
    put(path, json.dumps(content))
    with pytest.raises(errors.BadState, match="private key is not a readable") as caught:
        identity.load(tmp_path)
    assert content["Key"].splitlines()[1] not in str(caught.value)


def test_a_directory_of_something_else_is_refused(tmp_path: Path, ours: Cluster) -> None:
    (tmp_path / "docker").mkdir()
    with pytest.raises(errors.BadState, match=r"docker is not Covey's"):
        identity.load(tmp_path)
    with pytest.raises(errors.BadState, match=r"docker is not Covey's"):
        identity.keep_pending_key(tmp_path, keys.new_key())
    assert (tmp_path / "docker").exists()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "node", "")
    with pytest.raises(errors.BadState, match="not a directory"):
        identity.load(tmp_path / "node")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path, ours: Cluster) -> None:
    identity.save(tmp_path, ours.node(1, Role.WORKER))
    (tmp_path / "identity.json").chmod(0o640)
    with pytest.raises(errors.BadState, match=r"mode 0640.*chmod 0600"):
        identity.load(tmp_path)


def test_an_unreadable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity.json").mkdir()
    with pytest.raises(errors.BadState, match=r"identity\.json cannot be read: Is a directory"):
        identity.load(tmp_path)


def test_a_pending_key_stays_until_the_join_is_complete(tmp_path: Path, ours: Cluster) -> None:
    first, second = keys.new_key(), keys.new_key()
    assert identity.keep_pending_key(tmp_path, first) == first
    assert identity.keep_pending_key(tmp_path, second) == first
    assert identity.load(tmp_path) is None
    kept = identity.pending_key(tmp_path)
    assert kept is not None
    identity.save(tmp_path, ours.signed(kept, 1, Role.WORKER, now=NOW, expiry=DAY))
    assert identity.pending_key(tmp_path) is None
    assert identity.load(tmp_path) is not None


def test_a_damaged_pending_key_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "pending.json", '{"Version": 1, "Key": "?"}')
    with pytest.raises(errors.BadState, match=r"pending\.json: the private key"):
        identity.pending_key(tmp_path)


def test_a_mismatched_identity_is_not_saved(tmp_path: Path, ours: Cluster) -> None:
    with pytest.raises(errors.InvalidArgument, match="does not belong"):
        identity.assemble(ours.node(1, Role.WORKER).certificate, keys.new_key(), ours.root.cert_pem)
    assert identity.load(tmp_path) is None


def test_leaving_forgets(tmp_path: Path, ours: Cluster) -> None:
    identity.save(tmp_path, ours.node(1, Role.WORKER))
    identity.keep_pending_key(tmp_path, keys.new_key())
    identity.forget(tmp_path)
    identity.forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_with_a_guard_the_key_cannot_be_read_without_it(tmp_path: Path, ours: Cluster) -> None:
    node, guard = ours.node(1, Role.MANAGER), Secret(b"g" * 32)
    identity.save(tmp_path, node, guard)
    text = (tmp_path / "identity.json").read_text()
    assert node.key.reveal().decode().splitlines()[1] not in text
    with pytest.raises(errors.Locked):
        identity.load(tmp_path)
    assert identity.load(tmp_path, guard) == node
    peer = identity.peek(tmp_path)
    assert peer is not None
    assert (peer.node_id, peer.cluster_id, peer.role) == (node.node_id, node.cluster_id, Role.MANAGER)
    identity.save(tmp_path, node)
    assert identity.load(tmp_path) == identity.load(tmp_path, guard) == node


def test_a_sealed_key_with_another_guard_is_damage_and_is_kept(tmp_path: Path, ours: Cluster) -> None:
    identity.save(tmp_path, ours.node(1, Role.MANAGER), Secret(b"g" * 32))
    before = (tmp_path / "identity.json").read_bytes()
    with pytest.raises(errors.BadState, match=r"identity\.json: the private key is sealed.*Nothing was deleted"):
        identity.load(tmp_path, Secret(b"h" * 32))
    assert (tmp_path / "identity.json").read_bytes() == before


def test_where_there_is_no_identity_there_is_nobody_to_see(tmp_path: Path) -> None:
    assert identity.peek(tmp_path) is None
