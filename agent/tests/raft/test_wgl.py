# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker itself, on histories known to be good or bad."""

import random  # noqa: TID251 - seeded histories

import pytest

from tests.raft.wgl import NEVER, Operation, linearizable


def read(call, done, result):
    return Operation(call, done, "read", result=result)


def write(call, done, value):
    return Operation(call, done, "write", value)


def cas(call, done, expected, value, result=None):
    return Operation(call, done, "cas", value, expected, result)


GOOD = {
    "nothing": [],
    "a read of what was written": [write(0, 1, 1), read(2, 3, 1)],
    "the old value while it is being written": [write(0, 9, 1), read(1, 2, None), read(3, 4, 1)],
    "two writes at once, either order": [write(0, 9, 1), write(0, 9, 2), read(10, 11, 1)],
    "a write that was never answered takes effect late": [write(0, NEVER, 1), read(2, 3, None), read(4, 5, 1)],
    "a write that was never answered takes no effect": [write(0, NEVER, 1), read(2, 3, None)],
    "a swap that holds": [write(0, 1, 1), cas(2, 3, 1, 2, True), read(4, 5, 2)],
    "a swap that does not": [write(0, 1, 1), cas(2, 3, 7, 2, False), read(4, 5, 1)],
    "a swap that was never answered explains a read": [write(0, 1, 1), cas(2, NEVER, 1, 2), read(9, 10, 2)],
    "a read that was never answered": [read(0, NEVER, 5), write(1, 2, 1)],
}

BAD = {
    "a read of what nobody wrote": [read(0, 1, 7)],
    "a stale read": [write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)],
    "a lost write": [write(0, 1, 1), read(2, 3, None)],
    "a read that goes back": [write(0, 9, 1), read(1, 2, 1), read(3, 4, None)],
    "two readers that disagree on the order": [
        write(0, 9, 1),
        write(0, 9, 2),
        read(10, 11, 1),
        read(12, 13, 2),
    ],
    "two swaps from one value": [write(0, 1, 1), cas(2, 5, 1, 2, True), cas(2, 5, 1, 3, True)],
    "a swap that failed although nothing stood against it": [write(0, 1, 1), cas(2, 3, 1, 2, False)],
    "a swap that was refused and yet took effect": [write(0, 1, 1), cas(2, 3, 7, 2, False), read(4, 5, 2)],
    "an unanswered write that takes effect before it was asked for": [read(0, 1, 1), write(2, NEVER, 1)],
    "an unanswered write that takes effect twice": [
        write(0, NEVER, 1),
        read(1, 2, 1),
        write(3, 4, 2),
        read(5, 6, 2),
        read(7, 8, 1),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history(name):
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history(name):
    assert not linearizable(BAD[name])


def happened(seed, length=400):
    """A history that a real register went through, with about six operations at any time."""
    dice, state, found = random.Random(seed), None, []
    for moment in range(length):
        call, done = moment - dice.random() * 6, moment + dice.random() * 6
        kind = dice.choice(("read", "write", "cas"))
        if kind == "read":
            found.append(read(call, done, state))
        elif kind == "write":
            state = moment
            found.append(write(call, done, moment))
        else:
            expected = state if dice.random() < 0.5 else -1
            found.append(cas(call, done, expected, moment, expected == state))
            state = moment if expected == state else state
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_long_history_that_happened_is_good_and_with_one_stale_read_bad(seed):
    history = happened(seed)
    assert linearizable(history)
    last = max(operation.done for operation in history)
    assert not linearizable([*history, write(last + 1, last + 2, "new"), read(last + 3, last + 4, "old")])
