# SPDX-License-Identifier: GPL-3.0-or-later
"""The state at one log index, immutable, with the indexes that planners and the API ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from covey.model.errors import InvalidArgument, NotFound
from covey.model.objects import Cluster, Dependency, Node, Object, Service, StoredConfig, StoredSecret, Task

_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class View:
    """Everything that was true after log entry ``index``.

    ``fence`` is the newest leader's term seen, ``format`` the newest format of any entry up to here; ``requests`` the
    outcome of recent request ids, oldest first.
    """

    index: int = 0
    fence: int = 0
    format: int = 1
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    secrets: Mapping[str, StoredSecret] = field(default_factory=dict)
    configs: Mapping[str, StoredConfig] = field(default_factory=dict)
    service_names: Mapping[str, str] = field(default_factory=dict)
    secret_names: Mapping[str, str] = field(default_factory=dict)
    config_names: Mapping[str, str] = field(default_factory=dict)
    by_service: Mapping[str, Mapping[str, Task]] = field(default_factory=dict)
    by_node: Mapping[str, Mapping[str, Task]] = field(default_factory=dict)
    requests: Mapping[str, tuple[int, str]] = field(default_factory=dict, repr=False)

    @property
    def cluster(self) -> Cluster:
        """The one cluster object; raises NotFound before ``init`` wrote it."""
        for cluster in self.clusters.values():
            return cluster
        raise NotFound("cluster", "object")

    def table(self, kind: str) -> Mapping[str, Object]:
        """All objects of a kind (``node``, ``service``, ...) by id, retired ones included."""
        tables: dict[str, Mapping[str, Object]] = {
            "cluster": self.clusters,
            "node": self.nodes,
            "service": self.services,
            "task": self.tasks,
            "secret": self.secrets,
            "config": self.configs,
        }
        return tables[kind]

    def tasks_of(self, service_id: str) -> Iterable[Task]:
        """The tasks of a service, dead ones included."""
        return self.by_service.get(service_id, _NONE).values()

    def tasks_on(self, node_id: str) -> Iterable[Task]:
        """The tasks placed on a node, dead ones included."""
        return self.by_node.get(node_id, _NONE).values()

    def service_named(self, name: str) -> Service | None:
        """The service of that exact name."""
        found = self.service_names.get(name)
        return None if found is None else self.services[found]

    def dependencies(self, kind: str) -> Mapping[str, Dependency]:
        """All secrets, or all configs, by id, retired ones included."""
        return self.secrets if kind == "secret" else self.configs

    def dependency_named(self, kind: str, name: str) -> Dependency | None:
        """The secret, or config, that has that exact name now."""
        names = self.secret_names if kind == "secret" else self.config_names
        return self.dependencies(kind)[names[name]] if name in names else None

    def find(self, kind: str, reference: str) -> Any:
        """The object with that id, name (nodes: hostname) or unambiguous id prefix; NotFound or InvalidArgument.

        Retired secrets and configs are not found.
        """
        table = self.table(kind)
        if kind in ("secret", "config"):
            table = {id_: thing for id_, thing in self.dependencies(kind).items() if not thing.retired}
        if reference in table:
            return table[reference]
        candidates = list(self._named(kind, reference)) or [
            thing for key, thing in table.items() if key.startswith(reference)
        ]
        if not candidates or not reference:
            raise NotFound(kind, reference)
        if len(candidates) > 1:
            raise InvalidArgument(f"{kind} {reference} is ambiguous ({len(candidates)} matches found)")
        return candidates[0]

    def _named(self, kind: str, name: str) -> Iterator[Object]:
        if kind == "service":
            service = self.service_named(name)
            if service:
                yield service
        if kind in ("secret", "config"):
            dependency = self.dependency_named(kind, name)
            if dependency:
                yield dependency
        if kind == "node":
            yield from (n for n in self.nodes.values() if name in (n.description.hostname, n.spec.name))
        if kind == "task":
            yield from (t for t in self.tasks.values() if t.name == name)
