# SPDX-License-Identifier: GPL-3.0-or-later
"""What should happen, decided by pure functions of the state and the time.

One planner a file; none knows another, waits, logs, writes, or remembers.  ``pipeline.settle`` is how a leader runs
them; ``assign`` and ``rules`` are read by the dispatcher and the API.
"""
