# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory whose process is killed and whose power fails, in the ways that the simulation found to matter."""

import random  # noqa: TID251 - a disk with seeded dice

import pytest

from covey.store.raft.disk import Disk
from covey.store.raft.files import SyncFailed
from covey.store.raft.membership import joiner_entries
from tests.raft.power import SECTOR, PowerFiles


class Host:
    """A disk with a directory on it."""

    def __init__(self, directory):
        self.directory = directory / "raft"
        self.files = PowerFiles(self.directory, random.Random(0))
        self.disk = None

    def open(self):
        self.disk = Disk(self.directory, "node", self.files, random.Random(1).randbytes)
        self.disk.open(joiner_entries())
        return self.disk.log

    def kill(self):
        self.disk.release()

    def journal(self):
        """The file that grows."""
        return max(path for path in self.directory.glob("journal*") if path.suffix != ".new")


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.kill()


def add(log, count, size=10):
    for index in range(log.last + 1, log.last + 1 + count):
        log.add(bytes(size), index, 1)


def test_what_a_killed_process_left_in_the_cache_is_safe_once_it_was_read(host):
    """Or it would be acknowledged after the restart, and gone after the next power failure."""
    log = host.open()
    add(log, 5)
    host.files.failing = True
    with pytest.raises(SyncFailed):
        log.sync()
    host.kill()
    host.files.failing = False
    assert host.open().last == 6
    host.kill()
    host.files.lose_power()
    assert host.open().last == 6


@pytest.mark.parametrize("stump", [1, 4, 7])
def test_a_record_that_lacks_only_the_few_bytes_of_its_last_sector_is_torn_not_damaged(host, stump):
    log = host.open()

    def grow(size):
        before = host.journal().stat().st_size
        add(log, 1, size)
        log.sync()
        return host.journal().stat().st_size - before

    frame = grow(100) - 100
    while not 20 < (size := (stump - frame - host.journal().stat().st_size) % SECTOR) < 250:
        grow(100)
    grow(size)
    last, end = log.last, host.journal().stat().st_size
    assert end % SECTOR == stump
    host.kill()
    with host.journal().open("r+b") as file:
        file.seek(end - stump)
        file.write(bytes(stump))
    assert host.open().last == last - 1
