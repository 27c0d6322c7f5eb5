# SPDX-License-Identifier: GPL-3.0-or-later
"""The store on Raft: pysyncobj's election and commit rules behind our own journal, snapshots and transport."""

from covey.store.raft.keyring import lock_version, open_guard
from covey.store.raft.store import RaftSettings, RaftStore, bootstrap, prepare_join
from covey.store.raft.timings import Timings
from covey.store.raft.transport import Contexts, Identify

__all__ = [
    "Contexts",
    "Identify",
    "RaftSettings",
    "RaftStore",
    "Timings",
    "bootstrap",
    "lock_version",
    "open_guard",
    "prepare_join",
]
