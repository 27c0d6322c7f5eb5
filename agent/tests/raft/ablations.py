# SPDX-License-Identifier: GPL-3.0-or-later
"""The store's safeguards, each with a way to take it away, and a schedule that breaks a promise without it.

So the simulation shows that it notices what it is there for.  ``tools/soak --without NAME`` looks for schedules.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

import covey.state.apply as state
import covey.store.raft.core as core
import covey.store.raft.shim as shim
from covey.store.raft.disk import Disk
from covey.store.raft.driver import Driver
from covey.store.raft.election import Electing
from covey.store.raft.group import Group
from covey.store.raft.journal import Journal
from covey.store.raft.log import HardState, Log
from covey.store.raft.outbox import Outbox
from covey.store.raft.segment import Reader
from covey.store.raft.snapshot import Writer
from covey.store.raft.wire import Beat

Removal = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Ablation:
    """Without its safeguard that schedule breaks ``promise``."""

    remove: Removal
    promise: str
    campaign: str
    seed: int


# -- ways to take something away


class _Unsynced:
    """A file door that says that it has synced, and has not."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def sync(self, _fd: int) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


def _unsynced(owner: Any, method: str, unless: Callable[[Any], bool] = lambda _: False) -> Removal:
    """That method syncs nothing."""
    whole = getattr(owner, method)

    def careless(self: Any, *arguments: Any) -> Any:
        files, self._files = self._files, self._files if unless(self) else _Unsynced(self._files)
        try:
            return whole(self, *arguments)
        finally:
            self._files = files

    return _instead(owner, method, careless)


def _instead(owner: Any, name: str, value: Any) -> Removal:
    return lambda patch: patch.setattr(owner, name, value)


def _after(owner: Any, method: str, spoil: Callable[..., Any]) -> Removal:
    """What the method returns is ``spoil(returned, *arguments)``."""
    whole = getattr(owner, method)
    return _instead(owner, method, lambda *arguments: spoil(whole(*arguments), *arguments))


# -- what is on the disk before it is said


def _begins_a_file(journal: Any) -> bool:
    return bool(journal._closed_off or journal.length >= journal._segment_bytes)


def _acknowledge_at_once(outbox: Any, node_id: str, ack: Any) -> None:
    outbox.network.post(node_id, ack)


def _sync_unless_leading(driver: Any) -> None:
    if not driver.core._isLeader():
        driver._log.sync()
    driver._outbox.flush()


def _enter_term_in_memory(log: Any, term: int, vote: str | None) -> None:
    log._term, log._vote, log._unsaved = term, vote, True


def _save_in_place(hard_state: Any, hard: Any) -> None:
    sealed = hard_state._keys.seal_whole("hard", msgspec.msgpack.encode(hard), hard_state._entropy)
    fd = os.open(hard_state.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        hard_state._files.write(fd, sealed)
        hard_state._files.sync(fd)
    finally:
        os.close(fd)


# -- what is read again


def _tear_is_damage(reader: Any) -> None:
    raise reader._damaged()


def _grow_behind_tear(_: None, journal: Any, *_arguments: Any) -> None:
    journal._closed_off = False


def _grow_behind_half_a_record(patch: pytest.MonkeyPatch) -> None:
    whole = Journal.append

    def append(journal: Any, first: int, entries: Any) -> bool:
        try:
            return whole(journal, first, entries)
        except OSError:
            journal._closed_off = False
            raise

    patch.setattr(Journal, "append", append)


def _drop_all_but_the_last(journal: Any, _index: int) -> None:
    for segment in journal._leftover + journal._chain[:-1]:
        journal._files.remove(segment.path)
    journal._leftover, journal._chain = [], journal._chain[-1:]


def _retire_all_but_the_newest(disk: Any) -> None:
    keys = disk._keys.keys.ids()
    if len(keys) > 1:
        disk._keys.retire({keys[-1]})


# -- what a leader may do to a follower


def _commit_what_is_said(verdict: Any, _at: Any, message: Any, *_arguments: Any) -> Any:
    return replace(verdict, deliver=Beat(message.term, message.commit, message.seq))


def _commit_by_chunk(verdict: Any, _at: Any, message: Any) -> Any:
    return replace(verdict, beat=Beat(message.term, message.commit, message.seq))


# -- deciding, reading, leading


def _append_late_decisions(patch: pytest.MonkeyPatch) -> None:
    whole = core.Core._checkCommandsToApply

    def check(self: Any) -> None:
        self.proposals = [replace(proposal, fence=0) for proposal in self.proposals]
        whole(self)

    patch.setattr(core.Core, "_checkCommandsToApply", check)


def _remember_leading_only(driver: Any) -> None:
    driver._led = driver.core._isLeader()


def _lead_for_ever(conf: Any, _timings: Any) -> Any:
    conf.leaderFallbackTimeout = float("inf")
    return conf


def _change_any(self: Any, change: Any) -> bool:
    return bool(self._SyncObj__doChangeCluster(change))


_ENDS_BADLY = "no member ends by a BadState"

#: By a name for each safeguard; what it is and how it was taken away stands in docs/design/store-proof.md.
ABLATIONS = {
    "journal-sync": Ablation(_unsynced(Journal, "append", _begins_a_file), _ENDS_BADLY, "three", 0),
    "new-file-sync": Ablation(_unsynced(Journal, "_begin"), _ENDS_BADLY, "three", 0),
    "snapshot-sync": Ablation(_unsynced(Writer, "finish"), _ENDS_BADLY, "power", 0),
    "read-sync": Ablation(_unsynced(Journal, "load"), _ENDS_BADLY, "three", 3),
    "held-acknowledgements": Ablation(
        _instead(Outbox, "hold", _acknowledge_at_once), "who acknowledged an entry holds it", "power", 0
    ),
    "leader-sync": Ablation(
        _instead(Driver, "_settle_disk", _sync_unless_leading), "a leader holds all that was applied", "three", 0
    ),
    "vote-first": Ablation(_instead(Log, "setCurrentTerm", _enter_term_in_memory), "one vote a term", "power", 0),
    "vote-atomic": Ablation(_instead(HardState, "save", _save_in_place), _ENDS_BADLY, "three", 0),
    "torn-tail": Ablation(_instead(Reader, "_tear", _tear_is_damage), _ENDS_BADLY, "power", 0),
    "new-file-after-torn": Ablation(_after(Journal, "_read", _grow_behind_tear), _ENDS_BADLY, "power", 0),
    "new-file-after-half": Ablation(_grow_behind_half_a_record, _ENDS_BADLY, "three", 0),
    "needed-files-stay": Ablation(_instead(Journal, "drop_before", _drop_all_but_the_last), _ENDS_BADLY, "three", 0),
    "needed-keys-stay": Ablation(_instead(Disk, "_retire_keys", _retire_all_but_the_newest), _ENDS_BADLY, "three", 1),
    "chunk-clamp": Ablation(_after(core, "on_chunk", _commit_by_chunk), "one command an index", "links", 2),
    "refusal-clamp": Ablation(_after(shim, "_refused", _commit_what_is_said), "one command an index", "links", 0),
    "request-ids": Ablation(
        _instead(state, "_remembered", lambda view, *_: view.requests), "a write takes effect once", "links", 0
    ),
    "fence": Ablation(_append_late_decisions, "a deposed leader decides nothing", "links", 4),
    "barrier": Ablation(
        _instead(core.Core, "confirmed", lambda *_: True), "a read sees all acknowledged before it", "links", 0
    ),
    "first-entry": Ablation(
        _instead(Group, "settled", property(core.Core._isLeader)), "a read sees all acknowledged before it", "links", 2
    ),
    "callers-told": Ablation(
        _instead(Driver, "_settle_leadership", _remember_leading_only),
        "who leads no longer tells its callers",
        "links",
        0,
    ),
    "check-quorum": Ablation(
        _after(core, "configuration", _lead_for_ever), "who hears no majority leads no longer", "links", 0
    ),
    "pre-vote": Ablation(
        _instead(Electing, "_encouraged", lambda _: True), "nobody stands without a majority's consent", "three", 0
    ),
    "one-change": Ablation(
        _instead(Group, "_SyncObj__changeCluster", _change_any), "one change of the voters at a time", "crowd", 0
    ),
    "heard-first": Ablation(
        _instead(Group, "answering", Group.reachable),
        "who hears no majority leads no longer",
        "three-without-compaction",
        14,
    ),
}
