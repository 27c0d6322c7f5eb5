# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs as JSON, what two of them have in common, and how they differ."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.api import decode, specs
from covey.api.diff import differences
from covey.model.spec import ClusterSpec

FULL = {
    "Name": "web",
    "Labels": {"a.b": "c"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "bb:1",
            "Command": ["sleep"],
            "Args": ["1"],
            "Env": ["A=b"],
            "User": "1",
            "Hostname": "h",
            "Labels": {"x": "y"},
            "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1000}},
            ],
            "StopSignal": "TERM",
            "StopGracePeriod": 0,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000},
        },
        "Resources": {"Limits": {"NanoCPUs": 500000000}, "Reservations": {"MemoryBytes": 10485760}},
        "RestartPolicy": {"Condition": "on-failure", "Delay": 0, "MaxAttempts": 3},
        "Placement": {"Constraints": ["node.role==worker"]},
        "ForceUpdate": 2,
    },
    "Mode": {"Replicated": {"Replicas": 0}},
    "UpdateConfig": {"Parallelism": 0},
    "EndpointSpec": {
        "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}],
    },
}
MINIMAL = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}}


def contains(whole, part) -> bool:
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    return whole == part


def over(base, **parts):
    return specs.over(base, parts)


@pytest.mark.parametrize("sent", [FULL, MINIMAL])
def test_what_was_sent_is_shown(sent):
    assert contains(specs.declared_service(decode.service_spec(sent)), sent)


@pytest.mark.parametrize("show", [specs.declared_service, specs.whole_service])
@pytest.mark.parametrize("sent", [FULL, MINIMAL, {**MINIMAL, "Mode": {"Global": {}}}])
def test_what_is_shown_can_be_sent_back_and_means_the_same(sent, show):
    spec = decode.service_spec(sent)
    again = decode.service_spec(msgspec.json.decode(msgspec.json.encode(show(spec))))
    assert specs.comparable(again) == specs.comparable(spec)
    assert show(again) == show(spec)


def test_unset_stays_absent():
    shown = specs.declared_service(decode.service_spec(MINIMAL))
    assert shown == {
        "Name": "web",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "bb:1", "Isolation": "default"},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 1}},
    }


def test_an_unset_delay_is_not_shown_as_one():
    policy = specs.whole_service(decode.service_spec(MINIMAL))["TaskTemplate"]["RestartPolicy"]
    assert policy == {"Condition": "any", "MaxAttempts": 0}


def test_a_mounts_type_is_always_shown():
    sent = over(MINIMAL, TaskTemplate={"ContainerSpec": {"Image": "b", "Mounts": [{"Source": "/a", "Target": "/b"}]}})
    shown = specs.declared_service(decode.service_spec(sent))
    assert shown["TaskTemplate"]["ContainerSpec"]["Mounts"] == [{"Type": "bind", "Source": "/a", "Target": "/b"}]


def container(**parts):
    return {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1", **parts}}}


@pytest.mark.parametrize(
    "other",
    [
        {**MINIMAL, "Mode": {"Replicated": {}}},
        {**MINIMAL, "Mode": {"Replicated": {"Replicas": 1}}},
        {**MINIMAL, "Labels": {}},
        {**MINIMAL, "UpdateConfig": {"Parallelism": 1}},
        {**MINIMAL, "EndpointSpec": {"Ports": []}},
        container(Env=[], Labels={}, StopGracePeriod=10 * 10**9, Hostname=""),
        {**MINIMAL, "TaskTemplate": {**MINIMAL["TaskTemplate"], "RestartPolicy": {"Condition": "any", "Window": 0}}},
        {**MINIMAL, "TaskTemplate": {**MINIMAL["TaskTemplate"], "Resources": {"Limits": {"NanoCPUs": 0}}}},
    ],
)
def test_a_default_spelled_out_is_no_difference(other):
    mine, theirs = decode.service_spec(MINIMAL), decode.service_spec(other)
    assert specs.comparable(mine) == specs.comparable(theirs)


@pytest.mark.parametrize(
    "other",
    [
        {**MINIMAL, "Mode": {"Replicated": {"Replicas": 0}}},
        {**MINIMAL, "Mode": {"Global": {}}},
        {**MINIMAL, "UpdateConfig": {"Parallelism": 0}},
        container(StopGracePeriod=0),
        container(Image="bb:2"),
        {**MINIMAL, "TaskTemplate": {**MINIMAL["TaskTemplate"], "RestartPolicy": {"Delay": 0}}},
        {**MINIMAL, "TaskTemplate": {**MINIMAL["TaskTemplate"], "RestartPolicy": {"Delay": 5 * 10**9}}},
    ],
)
def test_another_meaning_is_a_difference(other):
    mine, theirs = decode.service_spec(MINIMAL), decode.service_spec(other)
    assert specs.comparable(mine) != specs.comparable(theirs)


def test_ports_and_mounts_are_compared_by_their_meaning():
    short = {"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishMode": "host"}]}}
    long = {
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "host", "PublishedPort": 0}]}
    }
    comparable = [specs.comparable(decode.service_spec({**MINIMAL, **each})) for each in (short, long)]
    assert comparable[0] == comparable[1]
    mounts = (
        {"Source": "/a", "Target": "/b"},
        {"Source": "/a", "Target": "/b", "BindOptions": {"Propagation": "rprivate"}},
    )
    comparable = [specs.comparable(decode.service_spec(container(Mounts=[each]))) for each in mounts]
    assert comparable[0] == comparable[1]


def test_a_cluster_is_always_whole():
    shown = specs.cluster(ClusterSpec())
    assert shown["Orchestration"] == {"TaskHistoryRetentionLimit": 5}
    assert shown["Raft"]["SnapshotInterval"] == 10000
    assert decode.decode(ClusterSpec, shown).orchestration is not None


# -- differences


def paths(before, after):
    return [(each.path, each.before, each.after) for each in differences(before, after)]


def test_a_difference_has_its_path():
    assert paths({"A": {"B": 1, "C": 2}}, {"A": {"B": 1, "C": 3}}) == [("A.C", 2, 3)]


def test_what_comes_and_goes_is_told_field_by_field():
    assert paths({"A": {"B": 1}}, {"C": [1]}) == [("A.B", 1, None), ("C", None, [1])]


def test_an_empty_map_that_goes_is_told():
    assert paths({"Global": {}}, {}) == [("Global", {}, None)]


def test_labels_keep_their_dots():
    assert paths({"Labels": {"a.b": "1"}}, {"Labels": {}}) == [("Labels[a.b]", "1", None)]


def test_a_list_is_one_value():
    assert paths({"Env": ["A=1", "B=2"]}, {"Env": ["B=2", "A=1"]}) == [("Env", ["A=1", "B=2"], ["B=2", "A=1"])]


json = st.recursive(
    st.integers(0, 2) | st.text("ab", max_size=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ABC"), inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(st.sampled_from("ABC"), json, max_size=3)


@given(maps, maps)
def test_there_are_differences_exactly_if_the_two_differ(before, after):
    assert bool(paths(before, after)) == (before != after)
    assert [(path, new, old) for path, old, new in paths(before, after)] == paths(after, before)
