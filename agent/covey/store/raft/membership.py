# SPDX-License-Identifier: GPL-3.0-or-later
"""Who votes: changes as log entries, and when one may not be made.  Pure; addresses are data, Raft ids identity.

A Raft id is a node id with a mark of its own for each time that the node became a manager (``node.mark``).  A node that
was demoted has forgotten how it voted and what it held; promoted again it is another member, and nobody takes it for
the one that promised.  Which node a connection is of, its certificate says; the id only has to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from covey.model.errors import BadState, FailedPrecondition
from covey.store.raft.segment import Entry

_MARK_BYTES = 8

#: First byte of every entry, as pysyncobj numbers them.
REGULAR, NO_OP, MEMBERSHIP = 0, 1, 2

_VERSION = 1


def new_raft_id(node_id: str, entropy: Callable[[int], bytes]) -> str:
    """The identity of a manager from now until its vote is taken away."""
    return f"{node_id}.{entropy(_MARK_BYTES).hex()}"


def node_of(raft_id: str) -> str:
    """The node whose Raft id it is."""
    return raft_id.partition(".")[0]


def ids_of(node_id: str, members: Iterable[str]) -> list[str]:
    """Those of ``members`` that are of this node."""
    return sorted(member for member in members if node_of(member) == node_id)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One voter more or less; ``add`` of a voter and removal of a stranger are nothing."""

    add: bool
    node_id: str
    address: str
    version: int = _VERSION

    def apply(self, members: Mapping[str, str], *, reverse: bool = False) -> dict[str, str]:
        """The voters after the change; ``reverse`` undoes one that was truncated from the log."""
        after = dict(members)
        if self.add != reverse:
            after[self.node_id] = self.address
        else:
            after.pop(self.node_id, None)
        return after


def encode_change(change: Change) -> bytes:
    """The log entry of a change."""
    return bytes([MEMBERSHIP]) + msgspec.msgpack.encode(change)


def decode_change(command: bytes) -> Change | None:
    """The change that an entry makes, None if it is another kind of entry; BadState for what a later release wrote."""
    kind = command[0] if command else -1
    if kind in {REGULAR, NO_OP}:
        return None
    change = msgspec.msgpack.decode(command[1:], type=Change) if kind == MEMBERSHIP else None
    if change is None or change.version != _VERSION:
        raise BadState(
            f"an entry of the log is of a kind ({kind}, version {change.version if change else 0}) that this release "
            "does not know: upgrade this manager"
        )
    return change


def members_after(members: Mapping[str, str], entries: Iterable[Entry]) -> dict[str, str]:
    """The voters once ``entries`` are in the log; a change counts from then on, not from its commit."""
    after = dict(members)
    for command, _, _ in entries:
        change = decode_change(command)
        if change is not None:
            after = change.apply(after)
    return after


def first_entries(node_id: str, address: str) -> list[Entry]:
    """The log of a new cluster: the entry that every log begins with, and its first voter."""
    return [*joiner_entries(), (encode_change(Change(True, node_id, address)), 2, 0)]


def joiner_entries() -> list[Entry]:
    """The log of a node that is to learn everything from the others."""
    return [(bytes([NO_OP]), 1, 0)]


def check_change(change: Change, members: Mapping[str, str], reachable: frozenset[str]) -> None:
    """Raise FailedPrecondition if the cluster could not decide anything after ``change``.

    ``reachable`` are the nodes that answer now, the asking leader and a node to be added included.
    """
    after = change.apply(members)
    quorum = len(after) // 2 + 1
    answering = sorted(reachable & after.keys())
    if len(answering) >= quorum:
        return
    silent = ", ".join(sorted(map(node_of, after.keys() - reachable))) or "none"
    what = "adding" if change.add else "removing"
    raise FailedPrecondition(
        f"{what} manager {node_of(change.node_id)} would leave {len(after)} managers, of which {quorum} must answer "
        f"for any change to the cluster, and only {len(answering)} would (silent: {silent}): the cluster could not be "
        "managed any more. Bring the silent managers back first"
    )
