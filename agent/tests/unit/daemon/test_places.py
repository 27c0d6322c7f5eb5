# SPDX-License-Identifier: GPL-3.0-or-later
"""The state directory: whole or not at all, nothing of others touched, nothing damaged passed over."""

import shutil

import pytest

from covey.daemon.places import Places, Settings
from covey.model.errors import BadState
from covey.model.spec import Role
from covey.security import ca, keys
from covey.security.identity import Identity, assemble

NOW = 1_700_000_000.0


@pytest.fixture
def who() -> Identity:
    root, key = ca.create_root(NOW), keys.new_key()
    certificate = ca.sign(root, keys.make_csr(key), "n" * 25, Role.WORKER, "c" * 25, NOW, 3600.0)
    return assemble(certificate, key, root.cert_pem)


SETTINGS = Settings(advertise="10.0.0.1", listen="0.0.0.0:2377")


def test_an_empty_directory_is_no_cluster(tmp_path):
    places = Places(tmp_path / "state")
    places.prepare()
    assert places.load() is None


def test_a_cluster_appears_by_adopting_and_goes_by_leaving(tmp_path, who):
    places = Places(tmp_path)
    places.form(who, SETTINGS)
    assert places.load() is None
    places.adopt()
    places.worker.mkdir()
    assert places.load() == (who, SETTINGS)
    places.leave()
    assert list(tmp_path.iterdir()) == []


def test_what_was_being_formed_at_a_crash_is_dropped(tmp_path, who):
    places = Places(tmp_path)
    places.form(who, SETTINGS)
    places.prepare()
    assert list(tmp_path.iterdir()) == []


def test_what_was_being_taken_away_at_a_crash_goes_at_the_next_start(tmp_path, who, monkeypatch):
    places = Places(tmp_path)
    places.form(who, SETTINGS)
    places.adopt()
    monkeypatch.setattr(shutil, "rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        places.leave()
    monkeypatch.undo()
    assert places.load() is None
    places.prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "pgdata").mkdir()
    with pytest.raises(BadState, match="pgdata"):
        Places(tmp_path).prepare()
    assert (tmp_path / "pgdata").exists()


def test_a_cluster_without_identity_is_damage(tmp_path):
    places = Places(tmp_path)
    places.cluster.mkdir()
    with pytest.raises(BadState, match="no identity"):
        places.load()


@pytest.mark.parametrize("damage", [lambda data: data[:10], lambda data: data.replace(b".", b"\xff", 1)])
def test_damaged_settings_are_damage(tmp_path, who, damage):
    places = Places(tmp_path)
    places.form(who, SETTINGS)
    places.adopt()
    file = places.cluster / "settings.json"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadState, match=r"settings\.json"):
        places.load()


def raft_at(path, content):
    path.mkdir(parents=True)
    (path / "journal").write_text(content)


def test_the_next_raft_takes_the_place_of_the_old_one_which_is_kept(tmp_path):
    places = Places(tmp_path)
    raft_at(places.raft, "old")
    raft_at(places.next_raft, "new")
    kept = places.replace_raft("raft-1")
    assert (places.raft / "journal").read_text() == "new"
    assert (kept / "journal").read_text() == "old"
    assert places.kept.stat().st_mode & 0o077 == 0
    places.prepare()
    assert (places.raft / "journal").read_text() == "new"


def test_a_recovery_interrupted_between_its_renames_is_finished(tmp_path):
    places = Places(tmp_path)
    raft_at(places.raft, "old")
    raft_at(places.next_raft, "new")
    places.keep_raft("raft-1")
    places.prepare()
    assert (places.raft / "journal").read_text() == "new"
    assert not places.next_raft.exists()


def test_a_recovery_interrupted_before_it_counted_is_dropped(tmp_path):
    places = Places(tmp_path)
    raft_at(places.raft, "old")
    raft_at(places.next_raft, "new")
    raft_at(places.next_raft.with_name("raft.next.new"), "half")
    places.prepare()
    assert [path.name for path in places.cluster.iterdir()] == ["raft"]
    assert (places.raft / "journal").read_text() == "old"


def test_two_agents_do_not_share_a_directory(tmp_path):
    places = Places(tmp_path / "state")
    with places.held():
        with (
            pytest.raises(BadState, match="another process uses this directory; stop the other agent first"),
            Places(tmp_path / "state").held(),
        ):
            pass
        places.prepare()
    with places.held():
        pass
