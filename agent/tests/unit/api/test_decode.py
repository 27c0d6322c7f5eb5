# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies as clients send them become the model; whatever cannot is refused with its path."""

from __future__ import annotations

import pytest

from covey.api import decode
from covey.api.bodies import DeclareNode, InitBody, JoinBody
from covey.model.errors import InvalidArgument, Unsupported
from covey.model.spec import MountType, NodeSpec, RestartCondition

WEB = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}


def web(**parts):
    return {**WEB, **parts}


def container(**parts):
    return web(TaskTemplate={"ContainerSpec": {"Image": "bb:1", **parts}})


def refusal(value, kind=InvalidArgument) -> str:
    with pytest.raises(kind) as caught:
        decode.service_spec(value)
    return str(caught.value)


# What docker 28 sends for `service create` with no flag given, and what docker-py adds or leaves null.
FROM_CLIENTS = {
    "docker": {
        "Name": "web",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "bb:1",
                "Args": ["sleep", "1"],
                "Init": False,
                "DNSConfig": {},
                "Isolation": "default",
                "Privileges": None,
            },
            "Resources": {"Limits": {}, "Reservations": {}},
            "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {}},
        "EndpointSpec": {"Mode": "vip"},
    },
    "docker-py": {
        "Name": "web",
        "Labels": None,
        "TaskTemplate": {
            "ContainerSpec": {"Image": "bb:1", "Command": ["sleep", "1"], "Env": None, "Mounts": [], "DNSConfig": None},
            "RestartPolicy": {"Condition": "", "Delay": 0, "MaxAttempts": 0, "Window": 0},
            "Networks": None,
        },
        "Mode": {"replicated": {"Replicas": 2}},
        "Networks": None,
        "UpdateConfig": None,
    },
}


@pytest.mark.parametrize("client", FROM_CLIENTS)
def test_what_clients_send_by_default_passes(client):
    spec = decode.service_spec(FROM_CLIENTS[client])
    assert spec.name == "web"
    assert spec.task_template.container_spec.image == "bb:1"
    assert spec.mode is not None
    assert spec.mode.replicated is not None


def test_names_match_in_any_case():
    spec = decode.service_spec({"name": "web", "tasktemplate": {"containerspec": {"image": "bb:1"}}})
    assert spec.task_template.container_spec.image == "bb:1"


def test_an_empty_word_stands_for_none_of_the_choices():
    policy = decode.service_spec(web(TaskTemplate={"RestartPolicy": {"Condition": ""}})).task_template.restart_policy
    assert policy is not None
    assert policy.condition is None
    mounts = decode.service_spec(container(Mounts=[{"Type": "", "Target": "/x"}])).task_template.container_spec.mounts
    assert mounts is not None
    assert mounts[0].type is MountType.BIND


def test_words_become_choices():
    value = web(TaskTemplate={"RestartPolicy": {"Condition": "on-failure"}})
    policy = decode.service_spec(value).task_template.restart_policy
    assert policy is not None
    assert policy.condition is RestartCondition.ON_FAILURE


def test_an_unknown_field_is_named_with_its_path_and_the_likely_one():
    text = refusal(container(Imagee="x"))
    assert text == "unknown field `TaskTemplate.ContainerSpec.Imagee`; did you mean Image?"


def test_every_unknown_field_is_named():
    text = refusal({**container(Imagee="x"), "Foo": 1})
    assert "`TaskTemplate.ContainerSpec.Imagee`" in text
    assert "unknown field `Foo`; known are" in text


def test_an_unknown_field_of_a_list_item_is_named():
    text = refusal(container(Mounts=[{"Target": "/a"}, {"Targett": "/b"}]))
    assert "`TaskTemplate.ContainerSpec.Mounts[1].Targett`; did you mean Target?" in text


def test_keys_of_labels_are_the_users():
    assert decode.service_spec(web(Labels={"Imagee": "x"})).labels == {"Imagee": "x"}


@pytest.mark.parametrize(
    ("value", "path", "word"),
    [
        (web(Mode={"Replicated": {"Replicas": "2"}}), "Mode.Replicated.Replicas", "int"),
        (container(Env={"A": "b"}), "TaskTemplate.ContainerSpec.Env", "array"),
        (container(Mounts=[{"Type": "foo"}]), "TaskTemplate.ContainerSpec.Mounts[0].Type", "bind, volume, tmpfs"),
        (web(Labels={"a": 1}), "Labels[...]", "str"),
    ],
)
def test_a_wrong_type_is_refused_with_its_path(value, path, word):
    text = refusal(value)
    assert text.startswith(f"{path}: ")
    assert word in text


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (container(Init=True), "TaskTemplate.ContainerSpec.Init"),
        (container(Ulimits=[{"Name": "nofile"}]), "TaskTemplate.ContainerSpec.Ulimits"),
        (web(UpdateConfig={"Order": "start-first"}), "UpdateConfig.Order"),
        (web(EndpointSpec={"Mode": "dnsrr"}), "EndpointSpec.Mode"),
        (web(Mode={"ReplicatedJob": {"MaxConcurrent": 1}}), "Mode.ReplicatedJob"),
    ],
)
def test_what_is_not_acted_on_is_refused_with_its_path(value, path):
    assert refusal(value).startswith(f"{path}: ")


def test_every_refused_field_is_named():
    text = refusal(container(Init=True, TTY=True))
    assert "ContainerSpec.Init: true" in text
    assert "ContainerSpec.TTY: true" in text


@pytest.mark.parametrize(
    "value",
    [
        web(Networks=[{"Target": "n"}]),
        web(TaskTemplate={"Networks": [{"Target": "n"}]}),
    ],
)
def test_parts_of_objects_not_built_yet_are_not_supported(value):
    assert "not built yet" in refusal(value, Unsupported)


def test_a_refused_value_is_shown_short():
    assert len(refusal(container(Groups=["x" * 10000]))) < 300


def test_two_modes_are_refused_as_the_peer_does():
    text = refusal(web(Mode={"Replicated": {"Replicas": 1}, "Global": {}}))
    assert text == "Mode: must specify only one service mode"


@pytest.mark.parametrize("value", ["x", 1, [], None])
def test_what_is_no_object_is_refused(value):
    assert "a JSON object with a ServiceSpec is expected" in refusal(value)


@pytest.mark.parametrize("body", [b"", b"  ", b"{", b"\xff{}"])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(InvalidArgument, match="body"):
        decode.body_as(NodeSpec, body)


def test_a_join_token_is_hidden_from_the_start():
    body = decode.body_as(JoinBody, b'{"JoinToken":"SWMTKN-1-secret","RemoteAddrs":["10.0.0.1:2377"]}')
    assert body.join_token.reveal() == b"SWMTKN-1-secret"
    assert "secret" not in repr(body)


def test_a_join_token_of_the_wrong_type_is_refused_without_showing_it():
    with pytest.raises(InvalidArgument) as caught:
        decode.body_as(JoinBody, b'{"JoinToken":4711}')
    assert "4711" not in str(caught.value)
    assert "JoinToken" in str(caught.value)


def test_init_as_docker_sends_it():
    sent = b"""{"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"","DataPathAddr":"","DataPathPort":0,
    "DefaultAddrPool":null,"ForceNewCluster":false,"AutoLockManagers":false,"Availability":"","SubnetSize":0,"Spec":{"Labels":null,
    "Orchestration":{},"Raft":{"ElectionTick":0,"HeartbeatTick":0},"Dispatcher":{},"CAConfig":{},"TaskDefaults":{},
    "EncryptionConfig":{"AutoLockManagers":false}}}"""
    body = decode.body_as(InitBody, sent)
    assert body.listen_addr == "0.0.0.0:2377"
    assert body.availability is None


@pytest.mark.parametrize("field", ['"DataPathPort":4790', '"SubnetSize":28'])
def test_init_refuses_what_it_does_not_act_on(field):
    with pytest.raises(InvalidArgument, match=field.split('"')[1]):
        decode.body_as(InitBody, b"{" + field.encode() + b"}")


def test_our_own_bodies_are_strict_too():
    with pytest.raises(InvalidArgument, match="unknown field `Label`; did you mean Labels"):
        decode.body_as(DeclareNode, b'{"Label":{}}')
