# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker's session: what it was told, and what there is to tell it now.

Level-triggered: ``news`` compares what was sent with the newest view, so no event needs to be seen.  Never in it:
sockets, the store, writing anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from covey.control.roster import epoch_of, heartbeat_period, managers_of, role_due
from covey.model.errors import CoveyError
from covey.model.objects import Cluster, Dependency, Node, NodeState, kind_of
from covey.model.session import (
    Assignments,
    CertificateWanted,
    FromDispatcher,
    FromWorker,
    ManagersChanged,
    Provision,
    Provisions,
    Refused,
    RoleWanted,
    RootChanged,
    Welcome,
)
from covey.model.spec import Role
from covey.plan.assign import assigned, difference, versions
from covey.plan.dependencies import needed_by
from covey.plan.rotation import has_moved
from covey.state.view import View

#: Bytes of secrets and configs in one message: even a slow link brings that between two heartbeats.
PROVISION_BYTES = 1 << 20


class ServerChannel(Protocol):
    """The manager's end of a connection to one worker."""

    @property
    def address(self) -> str:
        """The worker's address, without a port."""

    async def send(self, message: FromDispatcher) -> None:
        """Raises ConnectionError once the connection has ended."""

    async def receive(self) -> FromWorker:
        """The next message; ConnectionError at the end, or when what came is no message."""

    async def close(self) -> None:
        """End the connection; the other end sees it.  A repeat does nothing."""


class Ended(CoveyError):
    """The session is over, for this reason; ``farewell`` is told to the worker first."""

    def __init__(self, reason: str, farewell: FromDispatcher | None = None) -> None:
        super().__init__(reason)
        self.farewell = farewell


class Session:
    """A node's session as its dispatcher sees it."""

    def __init__(self, id_: str, node_id: str, channel: ServerChannel, view: View) -> None:
        self.id, self.node_id, self.channel = id_, node_id, channel
        self.period = heartbeat_period(view)
        self.woken = asyncio.Event()
        self.outbox: deque[FromDispatcher] = deque()
        self._end: Ended | None = None
        self._over = asyncio.Event()
        self._managers, self._epoch = managers_of(view), epoch_of(view)
        self._role: Role | None = None
        self._roots: tuple[bytes, bytes] = (b"", b"")
        self._sequence = 0
        self._sent: dict[str, int] = {}
        self._held: tuple[str, ...] = ()  # ids of the secrets and configs that the node was given and may keep
        self._seen: View | None = None

    def welcome(self, protocol: int) -> Welcome:
        """The answer to Hello; the session goes on in that protocol."""
        return Welcome(
            session_id=self.id,
            heartbeat_period=self.period,
            managers=self._managers,
            protocol=protocol,
            epoch=self._epoch,
        )

    def post(self, message: FromDispatcher) -> None:
        """Send it soon."""
        self.outbox.append(message)
        self.woken.set()

    def finish(self, reason: Ended) -> None:
        """End the session soon; the first reason stands."""
        self._end = self._end or reason
        self._over.set()

    async def over(self) -> None:
        """Raise the reason to end, once there is one."""
        await self._over.wait()
        if self._end is not None:
            raise self._end

    def is_behind(self, view: View) -> bool:
        """Whether ``news`` may have something to say; cheap, as the state copies a table only to change it."""
        seen = self._seen
        return seen is None or not (self._same_nodes(seen, view) and self._same_tasks(seen, view))

    def _same_nodes(self, seen: View, view: View) -> bool:
        return view.nodes is seen.nodes and view.clusters is seen.clusters

    def _same_tasks(self, seen: View, view: View) -> bool:
        return (
            view.by_node.get(self.node_id) is seen.by_node.get(self.node_id)
            and view.secrets is seen.secrets
            and view.configs is seen.configs
        )

    def news(self, view: View) -> Iterator[FromDispatcher]:
        """What the worker must hear to know what ``view`` says; raises Ended if the session cannot go on."""
        seen, self._seen = self._seen, view
        if seen is None or not self._same_nodes(seen, view):
            yield from self._node_news(view)
        if seen is None or not self._same_tasks(seen, view):
            yield from self._assignments(view)

    def _node_news(self, view: View) -> Iterator[FromDispatcher]:
        node = view.nodes.get(self.node_id)
        if node is None:
            raise Ended("the node was removed", removed(self.node_id))
        if node.status.state is NodeState.DOWN:
            raise Ended("the node was declared down while its session stood, so it has to begin anew")
        if heartbeat_period(view) != self.period:
            raise Ended("the heartbeat period changed, which is told at the beginning of a session")
        managers, due = managers_of(view), role_due(node)
        if managers != self._managers:
            self._managers = managers
            yield ManagersChanged(managers=managers)
        if due is not node.role and due is not self._role:
            yield RoleWanted(role=due)
        self._role = due
        if view.clusters:
            yield from self._root_news(view.cluster, node)

    def _root_news(self, cluster: Cluster, node: Node) -> Iterator[FromDispatcher]:
        """Told once each: to move to the root on its way in, and which root alone counts once it is in."""
        turning, (asked, only) = cluster.rotation, self._roots
        if turning is not None:
            if node.id in turning.told and turning.certificate != asked and not has_moved(node, turning):
                self._roots = turning.certificate, only
                yield CertificateWanted()
            return
        root, trusted = cluster.root_certificate, node.description.tls.trust_root
        if trusted and trusted != root and only != root:
            self._roots = asked, root
            yield RootChanged(root=root)

    def _assignments(self, view: View) -> Iterator[FromDispatcher]:
        tasks = assigned(view, self.node_id)
        needed = needed_by(view, tasks.values())
        changed, removed_ids = difference(self._sent, tasks)
        held = tuple(sorted(needed))
        if self._sequence and not changed and not removed_ids and held == self._held:
            return
        yield from provisions([thing for id_, thing in needed.items() if id_ not in self._held])
        self._sent, self._held = versions(tasks), held
        self._sequence += 1
        complete = self._sequence == 1
        yield Assignments(
            sequence=self._sequence, complete=complete, tasks=changed, removed=removed_ids, provisions=held
        )


def provisions(things: list[Dependency]) -> Iterator[Provisions]:
    """Messages that hold them all, each of a moderate size."""
    items: list[Provision] = []
    size = 0
    for thing in things:
        length = len(thing.data.reveal())
        if items and size + length > PROVISION_BYTES:
            yield Provisions(items=tuple(items))
            items, size = [], 0
        items.append(_provision(thing))
        size += length
    if items:
        yield Provisions(items=tuple(items))


def _provision(thing: Dependency) -> Provision:
    driver = thing.spec.templating
    template = (driver.name if driver else None) or ""
    return Provision(id=thing.id, kind=kind_of(thing), name=thing.spec.name, data=thing.data, template=template)


def removed(node_id: str) -> Refused:
    """What a node hears that is not in the cluster any more."""
    return Refused(
        reason=f"node {node_id} is not in this cluster (any more): it was removed; leave with force, then join anew",
        final=True,
    )
