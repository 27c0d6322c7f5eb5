# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to the replicated state: the ``Store`` protocol, one in memory, one on Raft."""
