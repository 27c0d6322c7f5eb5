# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that says which life of its cluster a directory belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.model.errors import BadState
from covey.store.raft import epoch
from covey.store.raft.epoch import Epoch
from covey.store.raft.files import RealFiles


def test_a_founded_cluster_needs_no_file(tmp_path: Path) -> None:
    assert epoch.read(tmp_path) == Epoch(0, 0)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    epoch.write(tmp_path, Epoch(1_700_000_000, 1_800_000_000), RealFiles())
    assert epoch.read(tmp_path) == Epoch(1_700_000_000, 1_800_000_000)


def test_no_flipped_bit_makes_it_another_epoch(tmp_path: Path) -> None:
    kept = Epoch(1_700_000_000, 0)
    epoch.write(tmp_path, kept, RealFiles())
    path = tmp_path / "epoch"
    good = path.read_bytes()
    refused = []
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert epoch.read(tmp_path) == kept
        except BadState as error:
            refused.append(str(error))
    assert len(refused) > 7 * len(good)
    assert all(str(path) in said for said in refused)


def test_a_damaged_one_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_bytes(b'{"number": 1}')
    with pytest.raises(BadState, match="begin anew"):
        epoch.read(tmp_path)
