# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of image references: ``[registry[:port]/]path[:tag][@digest]``, as registries and engines read it."""

from __future__ import annotations

import re

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_NAME = rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"(?P<name>{_NAME})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?", re.ASCII)

_LONGEST_NAME = 255


def problem(reference: str) -> str:
    """What is wrong with ``reference``, empty if nothing is."""
    match = _REFERENCE.fullmatch(reference)
    if match is None and reference.lower() != reference and _REFERENCE.fullmatch(reference.lower()):
        return f'"{reference}" is not a valid repository/tag: repository name must be lowercase'
    if match is None:
        return f'"{reference}" is not a valid repository/tag: expected [registry[:port]/]name[:tag][@digest]'
    if len(match["name"]) > _LONGEST_NAME:
        return f'"{reference}" is not a valid repository/tag: the name has more than {_LONGEST_NAME} characters'
    return ""
