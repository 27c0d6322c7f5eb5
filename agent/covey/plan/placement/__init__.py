# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a task may run (constraint, filters), where it runs best (rank), and the planner that decides it (schedule)."""
