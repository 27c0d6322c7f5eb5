# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids and digests as fixed-width base36, as the peer writes them."""

from __future__ import annotations

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"

ID_LENGTH = 25  # 36**25 > 2**128


def base36(number: int, width: int) -> str:
    """``number`` in base36, padded with zeros on the left to ``width`` characters."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def to_id(random_128_bits: int) -> str:
    """The id that stands for those 128 bits."""
    return base36(random_128_bits, ID_LENGTH)
