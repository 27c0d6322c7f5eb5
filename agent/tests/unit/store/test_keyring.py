# SPDX-License-Identifier: GPL-3.0-or-later
"""The data keys on disk: what opens them, and that no crash on the way from one lock to another loses them."""

import os

import pytest

from covey.model.errors import BadState, Locked, WrongUnlockKey
from covey.model.secret import Secret
from covey.store.raft.keyring import KeyRing, lock_version, open_guard
from tests.unit.store.faults import FailingFiles, Plug

ONE, TWO = Secret(b"1" * 32), Secret(b"2" * 32)


def ring(directory, files=None):
    return KeyRing(directory, files or FailingFiles(), os.urandom)


def created(directory):
    directory.mkdir(exist_ok=True)
    made = ring(directory)
    made.create()
    return made


def opened(directory, key=None):
    found = ring(directory)
    found.open(key)
    return found


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_new_ring_opens_by_itself(tmp_path):
    made = created(tmp_path)
    found = opened(tmp_path)
    assert (found.keys.all(), found.guard, found.lock_version) == (made.keys.all(), made.guard, 0)
    assert lock_version(tmp_path) == 0
    assert lock_version(tmp_path / "nothing") == 0


def test_a_locked_ring_opens_with_its_key_alone(tmp_path):
    before = created(tmp_path)
    (old,), guard = before.keys.all(), before.guard
    assert before.lock(1, ONE)
    assert sorted(content(tmp_path)) == ["dek"]
    assert (lock_version(tmp_path), before.lock_version) == (1, 1)
    with pytest.raises(Locked):
        opened(tmp_path)
    held = content(tmp_path)
    with pytest.raises(WrongUnlockKey, match="number 1 of its cluster"):
        opened(tmp_path, TWO)
    assert content(tmp_path) == held
    found = opened(tmp_path, ONE)
    assert found.keys.all()[0] == old
    assert len(found.keys.all()) == 2, "whoever read the old wrapping key must not read what is written from now on"
    assert found.guard != guard
    assert open_guard(tmp_path, ONE) == found.guard


def test_a_damaged_version_is_no_lock(tmp_path):
    """Else a manager that nobody locked would wait for an unlock key that nobody has."""
    created(tmp_path)
    path = tmp_path / "dek"
    data = path.read_bytes()
    for bit in range(64):
        wrong = bytearray(data)
        wrong[8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(wrong)
        for look in (lambda: lock_version(tmp_path), lambda: opened(tmp_path), lambda: opened(tmp_path, ONE)):
            with pytest.raises(BadState, match="dek is damaged"):
                look()


def test_another_unlock_key_takes_the_place_of_the_first(tmp_path):
    made = created(tmp_path)
    made.lock(1, ONE)
    keys, guard = made.keys.all(), made.guard
    assert not made.lock(2, TWO)
    with pytest.raises(WrongUnlockKey, match="number 2"):
        opened(tmp_path, ONE)
    found = opened(tmp_path, TWO)
    assert (found.keys.all(), found.guard) == (keys, guard)


def test_what_is_unlocked_opens_by_itself_again(tmp_path):
    made = created(tmp_path)
    made.lock(1, ONE)
    made.unlock()
    assert opened(tmp_path).keys.all() == made.keys.all()
    made.unlock()
    assert opened(tmp_path, ONE).keys.all() == made.keys.all()


def test_keys_that_no_file_needs_are_forgotten_but_never_the_newest(tmp_path):
    made = created(tmp_path)
    made.rotate()
    made.rotate()
    first, second, third = made.keys.ids()
    made.retire({first})
    assert opened(tmp_path).keys.ids() == [first, third]
    made.retire(set())
    assert opened(tmp_path).keys.ids() == [third]
    assert second not in made.keys.ids()


@pytest.mark.parametrize("key", [None, ONE], ids=["open", "locked"])
def test_damage_is_no_wrong_key(tmp_path, key):
    made = created(tmp_path)
    if key:
        made.lock(1, key)
    whole = (tmp_path / "dek").read_bytes()
    for position in (0, 5, 45, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (tmp_path / "dek").write_bytes(damaged)
        with pytest.raises(BadState, match="dek"):
            opened(tmp_path, key)


def test_no_key_is_readable_in_a_locked_ring(tmp_path):
    made = created(tmp_path)
    made.lock(1, ONE)
    data = b"".join(content(tmp_path).values())
    for secret in (ONE, made.guard, *made.keys.all()):
        assert secret.reveal() not in data
        assert secret.reveal().hex() not in repr(vars(made))


STEPS = {
    "lock": lambda made: made.lock(1, ONE),
    "rotate": lambda made: made.lock(2, TWO),
    "unlock": lambda made: made.unlock(),
    "new data key": lambda made: made.rotate(),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_call_leaves_the_lock_of_before_or_after(tmp_path, step):
    """Whichever it is, the directory says itself, and every data key is there."""

    def before(directory):
        made = created(directory)
        if step != "lock":
            made.lock(1, ONE)
        return made

    calls = FailingFiles()
    whole = before(tmp_path / "whole")
    whole._files = calls
    STEPS[step](whole)
    for at in range(calls.calls):
        directory = tmp_path / str(at)
        made = before(directory)
        keys = made.keys.all()
        made._files = FailingFiles(at)
        with pytest.raises(Plug):
            STEPS[step](made)
        key = {0: None, 1: ONE, 2: TWO}[lock_version(directory)]
        for _ in range(2):
            found = opened(directory, key)
            assert found.keys.all()[: len(keys)] == keys, at
            assert (directory / "kek").exists() == (key is None) or key is None
