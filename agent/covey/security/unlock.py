# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's unlock key as people read and type it.  Never in it: what it opens."""

from __future__ import annotations

import base64
import binascii

from covey.model.errors import InvalidArgument
from covey.model.secret import Secret

KEY_BYTES = 32
_PREFIX = "SWMKEY-1-"


def show(key: Secret) -> str:
    """The key for a person."""
    return _PREFIX + base64.b64encode(key.reveal()).decode().rstrip("=")


def parse(text: str) -> Secret:
    """The key that a person gave; InvalidArgument, without a character of it, if it is none."""
    body = text.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.strip().startswith(_PREFIX) or len(key) != KEY_BYTES:
        raise InvalidArgument(f"an unlock key is {_PREFIX} and {-(-KEY_BYTES * 4 // 3)} more characters", "UnlockKey")
    return Secret(key)
