# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what the engine's own tests (agent/tests/docker) do not show."""

from __future__ import annotations

from typing import Any

import pytest

from covey.executor import translate
from covey.executor.base import ContainerState
from covey.executor.translate import Owner
from covey.model.changes import FORMAT
from covey.model.objects import Task
from covey.model.spec import ContainerSpec, HealthConfig, Limit, PortConfig, Reservation, Resources, TaskSpec
from covey.model.units import MIB, SECOND

OWNER = Owner(node_id="n1", cluster_id="c1")


def task(resources: Resources | None = None, ports: tuple[PortConfig, ...] = (), **spec: Any) -> Task:
    return Task(
        id="t1",
        service_id="s1",
        service_name="web",
        slot=0,
        node_id="n1",
        spec=TaskSpec(container_spec=ContainerSpec(image="i:1", **spec), resources=resources),
        ports=ports,
    )


def test_what_is_not_asked_for_is_left_to_the_image_and_the_engine() -> None:
    config = translate.container_config(task(), OWNER)
    assert set(config) == {"Image", "Labels", "StopTimeout", "HostConfig"}
    assert config["HostConfig"] == {"RestartPolicy": {"Name": "no"}, "Mounts": [], "PortBindings": {}}
    assert config["StopTimeout"] == 10


def test_nobody_can_claim_anothers_container_by_a_label() -> None:
    labels = translate.labels(task(labels={"covey.task.id": "forged", "covey.node.id": "forged"}), OWNER)
    assert (labels["covey.task.id"], labels["covey.node.id"]) == ("t1", "n1")
    assert labels["com.docker.swarm.task.name"] == "web.n1.t1"


def test_a_port_published_twice_and_one_the_engine_chooses() -> None:
    ports = (
        PortConfig(target_port=80, published_port=8080),
        PortConfig(target_port=80, published_port=8081),
        PortConfig(target_port=53, protocol="udp"),
    )
    config = translate.container_config(task(ports=ports), OWNER)
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}],
        "53/udp": [{"HostPort": ""}],
    }


def test_a_reservation_above_the_limit_is_the_schedulers_alone() -> None:
    resources = Resources(limits=Limit(memory_bytes=8 * MIB), reservations=Reservation(memory_bytes=16 * MIB))
    host = translate.container_config(task(resources), OWNER)["HostConfig"]
    assert host["Memory"] == 8 * MIB
    assert "MemoryReservation" not in host


def test_the_health_check_keeps_the_engines_words_and_units() -> None:
    check = HealthConfig(test=["CMD", "true"], interval=SECOND, retries=2)
    config = translate.container_config(task(healthcheck=check), OWNER)
    assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": SECOND, "Retries": 2}


def shown(**state: Any) -> dict[str, Any]:
    return {
        "Id": "abc",
        "Name": "/web.1.t1",
        "State": {"Status": "running", **state},
        "Config": {"Labels": {"covey.task.id": "t1"}},
    }


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", ContainerState.CREATED),
        ("running", ContainerState.RUNNING),
        ("paused", ContainerState.RUNNING),
        ("removing", ContainerState.EXITED),
        ("exited", ContainerState.EXITED),
        ("dead", ContainerState.EXITED),
    ],
)
def test_every_word_of_the_engine_has_its_state(status: str, state: ContainerState) -> None:
    container = translate.container(shown(Status=status, ExitCode=4))
    assert container.state is state
    assert container.exit_code == (4 if state is ContainerState.EXITED else None)


def test_a_port_open_for_ipv4_and_ipv6_is_one_port() -> None:
    both = [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    ports = translate.container({**shown(), "NetworkSettings": {"Ports": {"80/tcp": both, "81/tcp": None}}}).ports
    assert ports == (PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="host"),)


def test_a_port_bound_to_one_address_of_the_host_is_not_open_to_all() -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostIp": "", "HostPort": "53"}]}
    found = translate.container({**shown(), "NetworkSettings": {"IPAddress": "172.17.0.2", "Ports": bindings}})
    assert [port.target_port for port in found.ports] == [53, 80]
    assert [port.target_port for port in found.open_to_all] == [53]
    assert found.address == "172.17.0.2"


def test_a_long_output_of_a_health_check_is_cut() -> None:
    container = translate.container(shown(Health={"Status": "unhealthy", "Log": [{"Output": "x" * 9999}]}))
    assert container.health == "unhealthy"
    assert len(container.health_output) == translate.OUTPUT_LIMIT


def test_no_health_check_is_no_health() -> None:
    assert translate.container(shown(Health={"Status": "none"})).health is None


def test_each_problem_of_an_engine_is_a_sentence() -> None:
    assert translate.problems({"OSType": "linux", "Swarm": {"LocalNodeState": "inactive"}}) == []
    found = translate.problems(
        {"OSType": "windows", "SecurityOptions": ["name=rootless"], "Swarm": {"LocalNodeState": "locked"}}
    )
    assert [sentence.split(";")[0] for sentence in found] == [
        "the container engine runs windows containers",
        "the container engine runs rootless, which cannot publish ports and limit resources as services need",
        "the container engine's own swarm mode is locked",
    ]


def test_the_description_of_a_host() -> None:
    info = {
        "Name": "h1",
        "Architecture": "x86_64",
        "OSType": "linux",
        "NCPU": 2,
        "MemTotal": 5,
        "ServerVersion": "20.10",
        "Labels": ["disk=ssd", "bare"],
        "Plugins": {"Volume": ["local"], "Log": ["syslog", "json-file"], "Authorization": None},
    }
    told = translate.description(info, {"ApiVersion": "1.41"}, "0.1")
    assert (told.hostname, told.nano_cpus, told.memory_bytes, told.agent_version) == ("h1", 2 * 10**9, 5, "0.1")
    assert told.state_format == FORMAT
    assert told.engine.labels == {"disk": "ssd", "bare": ""}
    assert told.engine.plugins == (("Log", "json-file"), ("Log", "syslog"), ("Volume", "local"))
