# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configs with the real docker client: there for the containers that may see them, and nowhere else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from covey_lab.host import Host
from covey_lab.waiting import wait_until
from covey_shows.cluster import SOCKET, Cluster

pytestmark = pytest.mark.lab

#: Made up here, so that nothing else can hold it by chance.
HIDDEN = "covey-lab-Zq7xT0vKe9Rw2uYb5Nc8Ls4Jd1Gh6Pf3"
SECOND = "covey-lab-Mn3bV6cX9zL2kJ5hG8fD1sA4pO7iU0yT"
ON_TWO = ("--constraint", "node.hostname==two")


def create(cluster: Cluster, kind: str, name: str, content: str, *flags: str) -> None:
    cluster.manager.docker("-H", f"unix://{SOCKET}", kind, "create", *flags, name, "-", stdin=content)


def declare(cluster: Cluster, kind: str, name: str, content: str) -> Any:
    spec = {"Name": name, "Data": base64.b64encode(content.encode()).decode()}
    call = f"curl -sS --fail --unix-socket {SOCKET} -d @- http://docker/covey/v1/{kind}s/declare"
    return json.loads(cluster.manager.ssh(call, stdin=json.dumps({"Spec": spec})).out)


def container(cluster: Cluster, host: Host, service: str = "web") -> str:
    """The one running container of the service on that host."""
    (name,) = (name for name in cluster.containers(host, everything=False) if name.startswith(f"{service}."))
    return name


def inside(cluster: Cluster, command: str, host: str = "two") -> str:
    where = cluster.host(host)
    return where.docker("exec", container(cluster, where), "sh", "-c", command).out.strip()


def traces(host: Host, marker: str) -> list[str]:
    """Every file of the host that holds the marker or its base64, every process that has it in its environment or
    arguments, and the engine's word on every container if that holds it."""
    encoded = base64.b64encode(marker.encode()).decode()[:40]
    patterns = f"{marker}\n{encoded}"
    # Each process's view of the disk as well: a container has mounts of its own.
    files = "grep -rlaF -D skip -f /dev/stdin --exclude-dir=proc --exclude-dir=sys / 2>/dev/null"
    processes = "grep -laF -f /dev/stdin /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null"
    engine = "docker ps -aq | xargs -r docker inspect | grep -F -f <(cat /dev/stdin)"
    found = [host.ssh(look, stdin=patterns, check=False).out for look in (files, processes)]
    found.append(host.ssh(f"bash -c {json.dumps(engine)}", stdin=patterns, check=False).out)
    return [line for text in found for line in text.splitlines() if line]


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[str]:
    """One container on host two with a secret and a config, each with an owner, a mode and a place of its own."""
    create(cluster, "secret", "key", HIDDEN)
    create(cluster, "config", "app.conf", "name = {{.Node.Hostname}} {{.Task.Slot}}", "--template-driver", "golang")
    create(cluster, "config", "greet", "#!/bin/sh\necho greeted\n")
    cluster.docker(
        *("service", "create", "--detach", "--name", "web", *ON_TWO),
        *("--secret", "source=key,target=db/key,uid=1234,gid=5678,mode=0400"),
        *("--config", "source=app.conf,target=/etc/app.conf"),
        *("--config", "source=greet,target=/greet,mode=0755"),
        cluster.image(),
    )
    cluster.wait_running("web", 1)
    yield "web"
    cluster.docker("service", "rm", "web", check=False)
    for kind, name in (("secret", "key"), ("config", "app.conf"), ("config", "greet")):
        cluster.docker(kind, "rm", name, check=False)


def test_the_client_lists_them_and_shows_no_secret(cluster: Cluster, web: str) -> None:
    assert "key" in cluster.docker("secret", "ls", "--format", "{{.Name}}").split()
    shown = json.loads(cluster.docker("secret", "inspect", "key"))
    assert "Data" not in shown[0]["Spec"]
    config = json.loads(cluster.docker("config", "inspect", "greet"))
    assert base64.b64decode(config[0]["Spec"]["Data"]) == b"#!/bin/sh\necho greeted\n"
    assert "greeted" in cluster.docker("config", "inspect", "--pretty", "greet")
    assert cluster.docker("secret", "ls", "-q", "--filter", "name=nothing") == ""


def test_a_container_finds_content_owner_and_mode_and_cannot_write(cluster: Cluster, web: str) -> None:
    assert inside(cluster, "cat /run/secrets/db/key") == HIDDEN
    assert inside(cluster, "stat -c '%u %g %a' /run/secrets/db/key /etc/app.conf") == "1234 5678 400\n0 0 444"
    assert inside(cluster, "cat /etc/app.conf") == "name = two 1"
    assert inside(cluster, "/greet") == "greeted"
    assert "Read-only" in inside(cluster, "echo x 2>&1 > /run/secrets/db/key || true")
    assert inside(cluster, "grep -c 'db/key tmpfs ro' /proc/mounts || grep db/key /proc/mounts") == "1"


def test_the_value_is_in_the_memory_of_its_node_and_nowhere_else(cluster: Cluster, web: str) -> None:
    assert [path.rpartition("/tasks/")[0] for path in traces(cluster.host("two"), HIDDEN)] == ["/run/covey"]
    for name in ("one", "three"):  # the manager's log and snapshots are encrypted
        assert traces(cluster.host(name), HIDDEN) == []
    cluster.host("three").ssh("cat > /root/planted", stdin=HIDDEN)
    assert traces(cluster.host("three"), HIDDEN) == ["/root/planted"], "the search must find what is there"
    cluster.host("three").ssh("rm /root/planted")


def test_what_is_used_cannot_be_removed(cluster: Cluster, web: str) -> None:
    said = cluster.manager.docker("-H", f"unix://{SOCKET}", "secret", "rm", "key", check=False)
    assert said.code != 0
    assert "secret 'key' is in use by the following service: web" in said.out + said.err


@pytest.mark.parametrize("unit", ["covey", "docker"])
def test_a_restart_leaves_a_running_container_its_secrets(cluster: Cluster, web: str, unit: str) -> None:
    before = cluster.containers(cluster.host("two"))
    cluster.host("two").ssh(f"systemctl restart {unit}")
    wait_until(lambda: cluster.nodes()["two"]["Status"]["State"] == "ready", 40, "the node to be back")
    cluster.wait_running("web", 1)
    assert cluster.containers(cluster.host("two")) == before
    assert inside(cluster, "cat /run/secrets/db/key") == HIDDEN


def test_a_restart_of_the_host_brings_them_back(cluster: Cluster, web: str) -> None:
    before = set(cluster.containers(cluster.host("two"), everything=False))
    cluster.host("two").plug()
    cluster.host("two").boot()
    wait_until(lambda: cluster.nodes()["two"]["Status"]["State"] == "ready", 60, "the node to be back")

    def again() -> bool:
        return bool(set(cluster.containers(cluster.host("two"), everything=False)) - before)

    wait_until(again, 60, "another container")
    cluster.wait_running("web", 1)
    assert inside(cluster, "cat /run/secrets/db/key; cat /etc/app.conf") == HIDDEN + "name = two 1"


def test_a_new_value_rolls_the_service_and_a_rollback_brings_the_old_one(cluster: Cluster, web: str) -> None:
    answer = declare(cluster, "secret", "key", SECOND)
    assert (answer["Action"], SECOND in json.dumps(answer)) == ("update", False)

    def reads(value: str) -> bool:
        try:
            return inside(cluster, "cat /run/secrets/db/key") == value
        except Exception:  # noqa: BLE001 - between two containers there is none
            return False

    wait_until(lambda: reads(SECOND), 40, "the new value in a new container")
    wait_until(
        lambda: cluster.get("/services/web")["UpdateStatus"]["State"] == "completed", 30, "the update to be complete"
    )
    cluster.docker("service", "rollback", "--detach", "web")
    wait_until(lambda: reads(HIDDEN), 40, "the old value in a new container")


def test_nothing_is_left_after_the_service(cluster: Cluster, web: str) -> None:
    cluster.docker("service", "rm", "web")
    wait_until(lambda: not cluster.containers(cluster.host("two")), 40, "its containers to be gone")
    for value in (HIDDEN, SECOND):
        assert traces(cluster.host("two"), value) == []
    cluster.docker("secret", "rm", "key")
    assert cluster.docker("secret", "ls", "-q") == ""
