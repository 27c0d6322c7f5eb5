# SPDX-License-Identifier: GPL-3.0-or-later
"""When a full disk is tried again."""

import errno

import pytest

from covey.store.raft.fulldisk import HEALTHY, RETRY_FIRST, RETRY_MOST, FullDisk, out_of_room, room_permitting


def test_it_is_tried_again_after_a_second_and_as_often_as_it_fails():
    disk = FullDisk()
    assert not disk.due(1e9)
    disk.begin(100.0)
    assert not disk.due(100.0 + RETRY_FIRST - 0.1)
    assert disk.due(100.0 + RETRY_FIRST)
    disk.begin(100.0 + RETRY_FIRST)
    assert not disk.due(100.0 + 2 * RETRY_FIRST - 0.1)
    assert disk.since == 100.0


def pauses(gap):
    """How long it waits each time, if it fills up again ``gap`` seconds after there was room."""
    disk, now, found = FullDisk(), 1000.0, []
    for _ in range(8):
        disk.begin(now)
        pause = next(tenth / 10 for tenth in range(1, 1000) if disk.due(now + tenth / 10))
        found.append(pause)
        disk.end(now + pause)
        now += pause + gap
    return found


def test_one_that_fills_up_again_and_again_is_tried_ever_less_often():
    assert pauses(1.0)[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses(1.0)[-1] == RETRY_MOST
    assert pauses(HEALTHY + 1.0) == [1.0] * 8


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_want_of_room_is_survived(number):
    assert out_of_room(OSError(number, "no room"))
    with room_permitting():
        raise OSError(number, "no room")


def test_nothing_else_is():
    with pytest.raises(OSError, match="broken"), room_permitting():
        raise OSError(errno.EIO, "broken")
