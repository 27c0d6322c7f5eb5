# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts agent/tests/support on the path: builders and worlds that several kinds of tests share."""

from __future__ import annotations

import sys
from pathlib import Path

SUPPORT = str(Path(__file__).parent / "support")
if SUPPORT not in sys.path:
    sys.path.insert(0, SUPPORT)
