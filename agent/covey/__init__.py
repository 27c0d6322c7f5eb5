# SPDX-License-Identifier: GPL-3.0-or-later
"""Covey's node agent: see ARCHITECTURE.md for the rooms and who may import whom."""

__version__ = "0.1.0"
