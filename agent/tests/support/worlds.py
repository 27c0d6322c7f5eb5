# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole cluster in one object: the state, a leader that plans, hosts that work, and a clock that tests turn.

The leader plans only when something changed or a plan's ``wake_at`` is due, so a lost wake-up shows.  After each plan
the laws of ``laws.py`` are checked.
"""

from __future__ import annotations

import laws
from builders import Ids, after, replace
from hosts import Host

from covey.model.changes import Change, Create, Delete, ObserveNode, ObserveTask, Update
from covey.model.objects import Node, NodeState, Service, Task
from covey.model.spec import ServiceSpec
from covey.plan import assign
from covey.plan.base import earliest
from covey.plan.liveness import liveness
from covey.plan.pipeline import LIMIT, settle
from covey.state.view import View

PERIOD = 2.0


class World:
    """Turn the clock with ``run``; change things with the methods named after what users and fate do."""

    def __init__(self, *nodes: Node, limit: int = LIMIT) -> None:
        self.limit = limit
        self.view, self.now, self.new_id = View(), 1000.0, Ids("t")
        self.hosts: dict[str, Host] = {}
        self.leader_since = self.now
        self.heard: dict[str, float] = {}
        self.sent: dict[str, dict[str, int]] = {}  # by node with a session
        self.downs: dict[str, float] = {}  # when each node was last declared down
        self._wake_at: float | None = None
        self._stirred = True
        for node in nodes:
            self.add(node)

    # What users do.

    def add(self, node: Node) -> None:
        """A host joins."""
        self.hosts[node.id] = Host(node.id)
        self.commit(Create(node))

    def declare(self, spec: ServiceSpec) -> Service:
        """Create the service, or bring it to that spec."""
        known = self.view.service_named(spec.name)
        change = Update(replace(known, spec=spec)) if known else Create(Service(id=f"s-{spec.name}", spec=spec))
        self.commit(change)
        return self.service(spec.name)

    def remove(self, name: str) -> None:
        service = self.service(name)
        self.commit(Delete("service", service.id, service.version))

    def set_node(self, node_id: str, **spec: object) -> None:
        node = self.view.nodes[node_id]
        self.commit(Update(replace(node, spec=replace(node.spec, **spec))))

    def remove_node(self, node_id: str) -> None:
        self.commit(Delete("node", node_id, self.view.nodes[node_id].version))
        self.sent.pop(node_id, None)

    # What fate does.

    def change_leader(self) -> None:
        """All that a leader has in memory is lost, sessions included."""
        self.leader_since, self.heard, self._wake_at, self._stirred = self.now, {}, None, True
        self.sent = {}

    # What happens by itself.

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.tick()

    def tick(self) -> None:
        self.now += 1
        for host in self.hosts.values():
            host.work(self.now)
            self._session(host)
        self.plan()
        for host in self.hosts.values():
            self._assign(host)

    def plan(self) -> None:
        """What the leader's loop does when it wakes."""
        if not self._stirred and (self._wake_at is None or self._wake_at > self.now):
            laws.hold_at_rest(self)
            return
        lively = liveness(self.view, self.heard, PERIOD, self.leader_since, self.now)
        if lively.changes:
            self.commit(*lively.changes)
        before = self.view
        plan = settle(before, self.now, self.new_id, self.limit)
        if plan.changes:
            self.commit(*plan.changes)
            laws.hold_for(before, self.view, self.now)
        self._wake_at, self._stirred = earliest(plan.wake_at, lively.wake_at), False
        if plan.wake_at == self.now:  # the plan was cut, as if the leader had died after a part of it
            laws.hold_at_rest(self)
            return
        assert settle(self.view, self.now, self.new_id).changes == (), "a settled view must stay settled"
        laws.hold(self)

    def commit(self, *changes: Change) -> None:
        self.view = after(self.view, *changes, at=self.now)
        self._stirred = True
        for change in changes:
            if isinstance(change, ObserveNode) and change.status and change.status.state is NodeState.DOWN:
                self.downs[change.id] = self.now
                self.sent.pop(change.id, None)

    def _session(self, host: Host) -> None:
        """The host's heartbeat and reports reach the leader, beginning a session where there is none."""
        node = self.view.nodes.get(host.id)
        if not (host.powered and host.linked) or node is None:
            return
        self.heard[host.id] = self.now
        if host.id not in self.sent:
            if node.status.state is not NodeState.READY:
                status = replace(node.status, state=NodeState.READY, message="", since=self.now)
                self.commit(ObserveNode(host.id, status))
            host.take(True, *self._news_for(host, {}))
        news, host.news = host.news, {}
        if news:
            self.commit(*(ObserveTask(task_id, status) for task_id, status in news.items()))

    def _assign(self, host: Host) -> None:
        if host.id in self.sent and host.powered and host.linked:
            host.take(False, *self._news_for(host, self.sent[host.id]))

    def _news_for(self, host: Host, sent: dict[str, int]) -> tuple[tuple[Task, ...], tuple[str, ...]]:
        tasks = assign.assigned(self.view, host.id)
        self.sent[host.id] = assign.versions(tasks)
        return assign.difference(sent, tasks)

    # What can be seen.

    def service(self, name: str) -> Service:
        found = self.view.service_named(name)
        assert found is not None, f"no service {name}"
        return found

    def tasks(self, name: str) -> list[Task]:
        """All tasks of the service, by slot and age."""
        tasks = self.view.tasks_of(self.service(name).id)
        return sorted(tasks, key=lambda task: (task.slot, task.node_id if not task.slot else "", task.id))

    def running(self, name: str) -> list[Task]:
        """Tasks that really run: wanted, seen running, and with a container."""
        return [t for t in self.tasks(name) if laws.is_running(t) and t.id in self.hosts[t.node_id].containers]
