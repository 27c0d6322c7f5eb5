# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of fields: Docker's names on the wire, and what is refused because it is not acted on yet."""

from __future__ import annotations

import msgspec
import pytest

from covey.model.admission import Admission, ManagerInfo
from covey.model.spec import ClusterSpec, Role, ServiceSpec, is_empty, refusals, without_later

CLI = {
    "Name": "web",
    "Labels": {},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "a:1", "Isolation": "default", "DNSConfig": {}, "Healthcheck": {"Test": ["NONE"]},
            "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}], "Init": False,
        },
        "Resources": {"Limits": {"NanoCPUs": 5}, "Reservations": {}},
        "Networks": None,
        "Runtime": "container",
    },
    "Mode": {"Global": {}},
    "UpdateConfig": {"Parallelism": 1, "Order": "stop-first", "MaxFailureRatio": 0},
    "EndpointSpec": {"Mode": "vip", "Ports": [{"TargetPort": 80, "PublishMode": "host"}]},
}  # fmt: skip


def test_names_are_dockers():
    spec = msgspec.convert(without_later(ServiceSpec, CLI), ServiceSpec)
    assert spec.mode is not None
    assert spec.mode.global_ is not None
    plain = msgspec.to_builtins(spec)
    assert plain["TaskTemplate"]["Resources"]["Limits"] == {"NanoCPUs": 5}
    assert "DNSConfig" not in plain["TaskTemplate"]["ContainerSpec"]
    assert msgspec.convert(plain, ServiceSpec) == spec


def test_what_clients_send_by_default_is_accepted():
    assert list(refusals(ServiceSpec, CLI)) == []


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"Networks": [{"Target": "n"}]}, "Networks"),
        ({"Mode": {"ReplicatedJob": {"MaxConcurrent": 1}}}, "Mode.ReplicatedJob"),
        ({"UpdateConfig": {"Order": "start-first"}}, "UpdateConfig.Order"),
        ({"TaskTemplate": {"ContainerSpec": {"Init": True}}}, "TaskTemplate.ContainerSpec.Init"),
        (
            {"TaskTemplate": {"ContainerSpec": {"Mounts": [{}, {"Consistency": "cached"}]}}},
            "TaskTemplate.ContainerSpec.Mounts[1].Consistency",
        ),
        ({"EndpointSpec": {"Ports": [{"Name": "http"}]}}, "EndpointSpec.Ports[0].Name"),
    ],
)
def test_what_is_not_acted_on_is_refused_with_its_path(part, path):
    [(found, value)] = refusals(ServiceSpec, part)
    assert found == path
    assert value


def test_values_of_a_wrong_shape_are_left_to_the_decoder():
    assert list(refusals(ServiceSpec, "x")) == []
    assert without_later(ServiceSpec, ["x"]) == ["x"]
    with pytest.raises(msgspec.ValidationError, match=r"\$\.TaskTemplate"):
        msgspec.convert(without_later(ServiceSpec, {"TaskTemplate": 5}), ServiceSpec)


def test_unknown_fields_are_refused_by_the_decoder():
    with pytest.raises(msgspec.ValidationError, match="unknown field `Nmae`"):
        msgspec.convert({"Nmae": "x"}, ServiceSpec)


def test_rafts_own_numbers_are_taken_as_they_were_shown():
    assert list(refusals(ClusterSpec, {"Raft": dict(ClusterSpec.RAFT)})) == []
    assert [path for path, _ in refusals(ClusterSpec, {"Raft": {"ElectionTick": 3}})] == ["Raft"]


@pytest.mark.parametrize(
    ("value", "empty"),
    [(None, True), (0, True), ("", True), ({}, True), ([], True), ({"A": 0}, True), ({"A": {"B": []}}, True),
     ([0], False), ({"A": 1}, False), ("x", False)],
)  # fmt: skip
def test_emptiness(value, empty):
    assert is_empty(value) is empty


def test_an_admission_names_ids_as_docker_does():
    admission = Admission(
        node_id="n", cluster_id="c", role=Role.WORKER, certificate="pem", root_ca="pem",
        managers=(ManagerInfo(node_id="m", addr="a:2377"),),
    )  # fmt: skip
    plain = msgspec.to_builtins(admission)
    assert plain["NodeID"] == "n"
    assert list(plain["Managers"]) == [{"NodeID": "m", "Addr": "a:2377"}]
