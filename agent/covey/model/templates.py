# SPDX-License-Identifier: GPL-3.0-or-later
"""How placeholders are written, and which there are: the part of Go's text/template that names a value.

Never in it: the values.
"""

from __future__ import annotations

import re

EXPRESSION = re.compile(r"(?P<left>\s*\{\{-\s|\{\{)\s*(?P<body>[^{}]*?)\s*(?P<right>\s-\}\}\s*|\}\})")
INDEX = re.compile(r'index\s+\.Service\.Labels\s+(?:"(?P<quoted>[^"\\]*)"|`(?P<raw>[^`]*)`)')
LABEL = re.compile(r"\.Service\.Labels\.(?P<key>[A-Za-z_][A-Za-z0-9_]*)")
#: In secrets and configs only.
CALL = re.compile(r'(?P<function>secret|config|env)\s+(?:"(?P<quoted>[^"\\]*)"|`(?P<raw>[^`]*)`)')
NAMES = (
    ".Service.ID",
    ".Service.Name",
    ".Node.ID",
    ".Node.Hostname",
    ".Node.Platform.Architecture",
    ".Node.Platform.OS",
    ".Task.ID",
    ".Task.Name",
    ".Task.Slot",
)
KNOWN = f'{", ".join(NAMES)}, .Service.Labels.KEY, index .Service.Labels "KEY"'
KNOWN_IN_DATA = f'{KNOWN}, secret "TARGET", config "TARGET", env "NAME"'


def text_of(data: bytes) -> str:
    """Any bytes as text that ``bytes_of`` turns back into them."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_closed(text: str) -> bool:
    """No placeholder was begun and not ended."""
    return "{{" not in EXPRESSION.sub("", text)


def problem(data: bytes) -> str:
    """Why no node can fill in the template of a secret or config, without showing any of it; empty if one may."""
    text = text_of(data)
    for number, found in enumerate(EXPRESSION.finditer(text), 1):
        body = found["body"]
        if body not in NAMES and not any(kind.fullmatch(body) for kind in (INDEX, LABEL, CALL)):
            return f"placeholder {number} is none that can be filled in; there are {KNOWN_IN_DATA}"
    return "" if is_closed(text) else "a placeholder is not closed"
