# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as its operator sees it: playbooks from outside, the real docker client on its hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from covey_lab.host import Host
from covey_lab.inventory import inventory
from covey_lab.lab import Lab
from covey_lab.registry import Registry
from covey_lab.waiting import wait_until

SOCKET = "/run/covey/covey.sock"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Artifact:
    """Where `make collection` and its kin put things."""

    build: Path

    @property
    def collections(self) -> Path:
        return self.build / "collections"

    @property
    def wheelhouse(self) -> Path:
        return self.build / "wheelhouse"


@dataclass(frozen=True)
class Play:
    """The end of an ansible-playbook run."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        return {host: int(changed) for host, _, changed, _, _ in RECAP.findall(self.output)}

    @property
    def failed(self) -> dict[str, int]:
        return {host: int(down) + int(bad) for host, _, _, down, bad in RECAP.findall(self.output)}


def whole(cluster: Cluster) -> bool:
    """Whether every manager is reachable, and one of them leads."""
    nodes = cluster.nodes()
    states = [nodes.get(name, {}).get("ManagerStatus", {}) for name in cluster.managers]
    leaders = [state for state in states if state.get("Leader")]
    return len(leaders) == 1 and all(state.get("Reachability") == "reachable" for state in states)


class Cluster:
    """Hosts of a lab that site.yml makes a cluster."""

    def __init__(self, lab: Lab, artifact: Artifact, names: list[str], managers: list[str], registry: Registry) -> None:
        self.lab, self.artifact, self.registry = lab, artifact, registry
        self.names, self.managers = list(names), list(managers)
        self.variables: dict[str, Any] = {"agent_wheelhouse": str(artifact.wheelhouse)}
        #: The manager to be asked, where the first that is on is none any more.
        self.contact = ""

    # -- hosts

    @property
    def hosts(self) -> list[Host]:
        return [self.lab.host(name) for name in self.names]

    def host(self, name: str) -> Host:
        return self.lab.host(name)

    @property
    def manager(self) -> Host:
        """A manager that is on."""
        if self.contact:
            return self.host(self.contact)
        return next(host for host in self.hosts if host.name in self.managers and host.running)

    @property
    def managing(self) -> list[Host]:
        """The managers, on or off."""
        return [self.lab.host(name) for name in self.managers]

    # -- playbooks

    def play(
        self,
        playbook: str,
        *words: str,
        variables: dict[str, Any] | None = None,
        check: bool = True,
        cwd: Path | None = None,
    ) -> Play:
        """Run `covey.swarm.PLAYBOOK` (or a file) as a user without a terminal does; its output is kept whole."""
        where = self.artifact.build / "shows" / self.lab.name
        where.mkdir(parents=True, exist_ok=True)
        hosts = where / "inventory.yml"
        hosts.write_text(inventory(self.hosts, self.managers))
        settings = json.dumps({**self.variables, **(variables or {})})
        name = playbook if "/" in playbook else f"covey.swarm.{playbook}"
        command = ["ansible-playbook", "-i", str(hosts), name, "-e", settings, *words]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.artifact.collections),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "PWD": str(cwd or Path.cwd()),
        }
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        play = Play(done.returncode, done.stdout + done.stderr)
        (where / f"{name.rpartition('/')[2]}.log").write_text(play.output)
        assert not check or play.code == 0, f"{' '.join(command)}\n{play.output}"
        return play

    def site(self, *words: str, **variables: Any) -> Play:
        return self.play("site", *words, variables=variables)

    # -- the docker client and the API behind it

    def docker(self, *words: str, on: Host | None = None, check: bool = True, timeout: float = 120) -> str:
        """The real docker client against the agent's socket, on a manager unless said."""
        host = on or self.manager
        return host.docker("-H", f"unix://{SOCKET}", *words, check=check, timeout=timeout).out

    def get(self, path: str, on: Host | None = None, **filters: list[str]) -> Any:
        """A GET of the agent's API, decoded."""
        query = f"?filters={quote(json.dumps(filters))}" if filters else ""
        host = on or self.manager
        out = host.ssh(f"curl -sS --max-time 20 --unix-socket {SOCKET} 'http://docker{path}{query}'").out
        return json.loads(out)

    def nodes(self) -> dict[str, Any]:
        """Nodes by host name."""
        return {node["Description"]["Hostname"]: node for node in self.get("/nodes")}

    def wait_managers(self, timeout: float = 60) -> None:
        """Until all of them vote."""
        wait_until(lambda: whole(self), timeout, "every manager to be reachable, and one to lead")

    def tasks(self, service: str, state: str = "running") -> list[Any]:
        """Tasks of a service that are in that state and wanted so."""
        found = self.get("/tasks", service=[service], **{"desired-state": ["running"]})
        return [task for task in found if task["Status"]["State"] == state]

    def spread(self, service: str) -> Counter[str]:
        """How many running tasks each host has."""
        names = {node["ID"]: name for name, node in self.nodes().items()}
        return Counter(names[task["NodeID"]] for task in self.tasks(service))

    def wait_running(self, service: str, count: int, timeout: float = 60) -> list[Any]:
        """The tasks, once exactly that many run."""

        def enough() -> list[Any] | None:
            tasks = self.tasks(service)
            return tasks if len(tasks) == count else None

        found = wait_until(enough, timeout, f"{count} running tasks of {service}")
        assert found is not None
        return list(found)

    # -- the engines

    def containers(self, host: Host, everything: bool = True) -> dict[str, tuple[str, str]]:
        """Of each container of ours on that host: name -> (id, StartedAt), straight from its engine."""
        flags = "-aq" if everything else "-q"
        ids = host.ssh(f"docker ps {flags} --no-trunc --filter label=com.docker.swarm.task.id").out.split()
        if not ids:
            return {}
        lines = host.ssh("docker inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' " + " ".join(ids)).out
        return {name.lstrip("/"): (id_, started) for name, id_, started in map(str.split, lines.splitlines())}

    def everything(self) -> dict[str, dict[str, tuple[str, str]]]:
        """All containers of ours on all hosts that are on."""
        return {host.name: self.containers(host) for host in self.hosts if host.running}

    def image(self, name: str = "covey/web", tag: str = "1") -> str:
        return self.registry.reference(name, tag)
