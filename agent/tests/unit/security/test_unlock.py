# SPDX-License-Identifier: GPL-3.0-or-later
"""The unlock key as people read and type it."""

import os

import pytest

from covey.model.errors import InvalidArgument
from covey.model.secret import Secret
from covey.security.unlock import parse, show


def test_what_is_shown_is_read() -> None:
    for _ in range(20):
        key = Secret(os.urandom(32))
        assert parse(f" {show(key)}\n") == key


def test_it_looks_as_the_peers_does() -> None:
    assert show(Secret(bytes(32))) == "SWMKEY-1-" + "A" * 43


@pytest.mark.parametrize(
    "text",
    ["", "A" * 43, "SWMKEY-1-", "SWMKEY-1-" + "A" * 42, "SWMKEY-1-" + "A" * 44, "SWMKEY-2-" + "A" * 43, "SWMKEY-1-é"],
)
def test_anything_else_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidArgument, match="43 more characters") as refusal:
        parse(text)
    assert not text or text not in str(refusal.value).replace("SWMKEY-1- and", "")
