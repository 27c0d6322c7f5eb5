# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: their form, and what is said about wrong ones."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.model import errors
from covey.model.spec import Role
from covey.security import ca, tokens

from .conftest import NOW, Cluster

ROOT = ca.create_root(NOW).cert_pem
WORKER = tokens.make_token(ROOT, bytes(range(16)))
MANAGER = tokens.make_token(ROOT, bytes(range(1, 17)))
DIGEST = ca.root_digest(ROOT)


@given(st.binary(min_size=16, max_size=16))
def test_every_secret_makes_a_token_that_parses(secret: bytes) -> None:
    text = tokens.make_token(ROOT, secret)
    parsed = tokens.parse_token(f" {text}\n")
    assert text == f"SWMTKN-1-{parsed.digest}-{parsed.secret.reveal().decode()}"
    assert (len(parsed.digest), len(parsed.secret.reveal())) == (50, 25)
    assert int(parsed.secret.reveal(), 36) == int.from_bytes(secret)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a join token"),
        ("secret", "not a join token"),
        ("SWMKEY-1-abcdef", "not a join token"),
        ("SWMTKN", "not a join token"),
        ("SWMTKN-x-y", "not a join token"),
        (WORKER.lower(), "not a join token"),
        (WORKER.replace("-1-", "-2-", 1), "version 2, this agent knows version 1"),
        (WORKER[:-1], "secret has 24 characters instead of 25"),
        (WORKER + "0", "secret has 26 characters instead of 25"),
        (WORKER[:40], "root digest has 31 characters instead of 50"),
        (f"SWMTKN-1-{DIGEST}", "secret has 0 characters"),
        (f"SWMTKN-1-{DIGEST.upper()}-{'0' * 25}", "root digest is garbled"),
        (f"SWMTKN-1-{DIGEST}-{'z' * 25}", "secret is garbled"),
        (f"SWMTKN-1-{DIGEST}-{'0' * 24}-", "secret is garbled"),
        (f"SWMTKN-1-{DIGEST}-{'0' * 24}é", "secret is garbled"),
    ],
    ids=itertools.count(),  # the texts differ from run to run
)
def test_a_wrong_token_is_told_apart(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message) as caught:
        tokens.parse_token(text)
    assert caught.value.path == "JoinToken"
    assert DIGEST not in str(caught.value)


def test_a_token_hides_its_secret() -> None:
    token = tokens.parse_token(WORKER)
    assert token.secret.reveal().decode() not in f"{token!r} {token}"


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_secret_is_sixteen_bytes(size: int) -> None:
    with pytest.raises(errors.InvalidArgument, match="16 bytes"):
        tokens.make_token(ROOT, bytes(size))


def test_a_token_gives_its_role() -> None:
    assert tokens.role_of(tokens.parse_token(WORKER), WORKER, MANAGER) is Role.WORKER
    assert tokens.role_of(tokens.parse_token(MANAGER), WORKER, MANAGER) is Role.MANAGER


def test_a_rotated_or_foreign_token_gives_none(foreign: Cluster) -> None:
    rotated = tokens.parse_token(tokens.make_token(ROOT, bytes(16)))
    same_secret = tokens.parse_token(tokens.make_token(foreign.root.cert_pem, bytes(range(16))))
    assert tokens.role_of(rotated, WORKER, MANAGER) is None
    assert tokens.role_of(same_secret, WORKER, MANAGER) is None


def test_the_root_is_checked_against_the_token(foreign: Cluster) -> None:
    token = tokens.parse_token(WORKER)
    tokens.check_root(token, ROOT)
    with pytest.raises(errors.Forbidden, match="not the one named in the join token"):
        tokens.check_root(token, foreign.root.cert_pem)
