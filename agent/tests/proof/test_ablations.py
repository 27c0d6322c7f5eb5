# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulation notices what it is there for: each safeguard taken away in turn breaks a promise."""

from pathlib import Path

import pytest

from tests.raft import campaigns
from tests.raft.ablations import ABLATIONS

PAGE = Path(__file__).parents[3] / "docs" / "design" / "store-proof.md"


@pytest.mark.parametrize("name", ABLATIONS)
def test_without_a_safeguard_a_promise_is_broken(name, monkeypatch):
    ablation = ABLATIONS[name]
    assert campaigns.breach(ablation.campaign, ablation.seed) is None
    ablation.remove(monkeypatch)
    promise, _ = campaigns.breach(ablation.campaign, ablation.seed) or ("none", "")
    assert promise == ablation.promise


def test_the_page_says_which():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    told = {row[0].strip("`"): (row[-2], row[-1]) for row in rows if row[0].strip("`") in ABLATIONS}
    assert told == {name: (each.promise, f"{each.campaign} {each.seed}") for name, each in ABLATIONS.items()}
