# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: `SWMTKN-1-<digest of the root>-<secret>`, as the peer writes them.

The digest lets the joiner know its cluster, the secret lets the cluster know its joiner.  Never in it: the token's
text in an error; a token is a credential.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from covey.model import errors
from covey.model.ids import base36
from covey.model.secret import Secret
from covey.model.spec import Role
from covey.security.ca import DIGEST_LENGTH, root_digest

PREFIX = "SWMTKN"
VERSION = "1"
SECRET_BYTES = 16
SECRET_LENGTH = 25  # 36**25 > 2**128
_BASE36 = re.compile(r"[0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart; the secret is its 25 characters."""

    digest: str
    secret: Secret


def make_token(root_cert_pem: bytes, secret: bytes) -> str:
    """The token of a cluster with this root, for 16 random bytes."""
    if len(secret) != SECRET_BYTES:
        raise errors.InvalidArgument(f"a token's secret is {SECRET_BYTES} bytes, not {len(secret)}")
    return f"{PREFIX}-{VERSION}-{root_digest(root_cert_pem)}-{base36(int.from_bytes(secret), SECRET_LENGTH)}"


def parse_token(text: str) -> Token:
    """The parts of a token, surrounding white space ignored; InvalidArgument says what is wrong with it."""
    prefix, _, rest = text.strip().partition("-")
    version, _, rest = rest.partition("-")
    if prefix != PREFIX or not version.isdecimal():
        raise errors.InvalidArgument(f"not a join token: one begins with {PREFIX}-{VERSION}-", "JoinToken")
    if version != VERSION:
        raise errors.InvalidArgument(
            f"a join token of version {version[:9]}, this agent knows version {VERSION} only: "
            "run the same release on every host, or take the token from this cluster's managers",
            "JoinToken",
        )
    digest, _, secret = rest.partition("-")
    _check_part("root digest", digest, DIGEST_LENGTH, 32)
    _check_part("secret", secret, SECRET_LENGTH, SECRET_BYTES)
    return Token(digest, Secret(secret.encode()))


def check_root(token: Token, root_cert_pem: bytes) -> None:
    """Forbidden unless this root is the one that the token names."""
    if not hmac.compare_digest(token.digest, root_digest(root_cert_pem)):
        raise errors.Forbidden(
            "the CA that the manager presents is not the one named in the join token: the token is of another cluster, "
            "or something answers in the manager's place; compare the token with that of a manager you trust"
        )


def role_of(token: Token, worker_token: str, manager_token: str) -> Role | None:
    """The role that a token gives in the cluster with these two tokens; None when it is neither.

    Takes the same time whichever matches, and however far.
    """
    is_worker = _same(token, worker_token)
    is_manager = _same(token, manager_token)
    if is_manager:
        return Role.MANAGER
    return Role.WORKER if is_worker else None


def _same(token: Token, expected_text: str) -> bool:
    expected = parse_token(expected_text)
    same_digest = hmac.compare_digest(token.digest, expected.digest)
    same_secret = hmac.compare_digest(token.secret.reveal(), expected.secret.reveal())
    return same_digest and same_secret


def _check_part(what: str, text: str, length: int, size: int) -> None:
    if len(text) != length:
        raise errors.InvalidArgument(
            f"the join token's {what} has {len(text)} characters instead of {length}: copy the token whole", "JoinToken"
        )
    if not _BASE36.fullmatch(text) or int(text, 36) >= 256**size:
        raise errors.InvalidArgument(f"the join token's {what} is garbled: copy the token again", "JoinToken")
