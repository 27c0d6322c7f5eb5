# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts agent/tests/support on the path: builders and worlds that several kinds of tests share.

``pytest agent/tests/cases --rewrite-cases`` records the stories anew, to be reviewed as a diff.  Generated examples are
the same in every run; ``--hypothesis-profile=default`` draws fresh ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

SUPPORT = str(Path(__file__).parent / "support")
if SUPPORT not in sys.path:
    sys.path.insert(0, SUPPORT)

settings.register_profile("same", derandomize=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-cases", action="store_true", help="record what the stories of agent/tests/cases say")
