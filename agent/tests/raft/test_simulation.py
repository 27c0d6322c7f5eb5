# SPDX-License-Identifier: GPL-3.0-or-later
"""A few seeded lives of each kind of cluster; the thousands are in ``agent/tests/proof``."""

import pytest

from tests.raft import campaigns


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", campaigns.CAMPAIGNS)
def test_every_promise_is_kept(name, seed):
    found = campaigns.breach(name, seed)
    assert found is None, campaigns.story(name, seed, found)


def test_what_the_clients_did_was_worth_watching():
    outcomes = campaigns.run("three", 0)
    assert min(outcomes[what] for what in ("acknowledged", "read", "decision", "joined")) > 0
