# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options become the ServiceSpec that Docker's API has for them, and nothing that was not given is in it."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.covey.swarm.plugins.module_utils import _spec
from ansible_collections.covey.swarm.plugins.modules.service import OPTIONS


def spec_of(**options):
    result = ArgumentSpecValidator(OPTIONS).validate(dict({"name": "web", "image": "web:1"}, **options))
    assert not result.error_messages
    return _spec.service_spec(result.validated_parameters)


def container_of(**options):
    return spec_of(**options)["TaskTemplate"]["ContainerSpec"]


def test_nothing_but_what_was_given():
    assert spec_of() == {
        "Name": "web",
        "Mode": {"Replicated": {}},
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}},
    }


def test_modes():
    assert spec_of(replicas=0)["Mode"] == {"Replicated": {"Replicas": 0}}
    assert spec_of(mode="global")["Mode"] == {"Global": {}}


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        ({"command": "sh -c 'sleep 1'"}, {"Command": ["sh", "-c", "sleep 1"]}),
        ({"command": ["sleep", "1 2"]}, {"Command": ["sleep", "1 2"]}),
        ({"args": ["-v"]}, {"Args": ["-v"]}),
        ({"env": {"B": 2, "A": True}}, {"Env": ["A=true", "B=2"]}),
        ({"env": ["B=2", "A=1"]}, {"Env": ["B=2", "A=1"]}),
        ({"container_labels": {"a": False}}, {"Labels": {"a": "false"}}),
        ({"user": "1000:1000"}, {"User": "1000:1000"}),
        ({"hostname": "h"}, {"Hostname": "h"}),
        ({"secrets": [{"secret_name": "key"}]}, {"Secrets": [{"SecretName": "key"}]}),
        (
            {"secrets": [{"secret_name": "key", "secret_id": "k1", "filename": "k", "uid": 5, "gid": "6", "mode": 0}]},
            {
                "Secrets": [
                    {"SecretName": "key", "SecretID": "k1", "File": {"Name": "k", "UID": "5", "GID": "6", "Mode": 0}},
                ],
            },
        ),
        (
            {"configs": [{"config_name": "conf", "filename": "/etc/x", "mode": "0400"}]},
            {"Configs": [{"ConfigName": "conf", "File": {"Name": "/etc/x", "Mode": 0o400}}]},
        ),
        ({"stop_signal": "SIGINT"}, {"StopSignal": "SIGINT"}),
        ({"stop_grace_period": "1m30s"}, {"StopGracePeriod": 90 * 10**9}),
        ({"healthcheck": {"test": "true", "retries": 2}}, {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Retries": 2}}),
        ({"healthcheck": {"test": ["NONE"]}}, {"Healthcheck": {"Test": ["NONE"]}}),
        ({"healthcheck": {"interval": "500ms"}}, {"Healthcheck": {"Interval": 500 * 10**6}}),
        (
            {"mounts": [{"source": "/a", "target": "/b", "readonly": True, "propagation": "rslave"}]},
            {
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": "/a",
                        "Target": "/b",
                        "ReadOnly": True,
                        "BindOptions": {"Propagation": "rslave"},
                    }
                ]
            },
        ),
        (
            {"mounts": [{"type": "tmpfs", "target": "/t", "tmpfs_size": "1M", "tmpfs_mode": 0o700}]},
            {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}}]},
        ),
        (
            {
                "mounts": [
                    {
                        "type": "volume",
                        "source": "v",
                        "target": "/v",
                        "no_copy": True,
                        "labels": {"a": "b"},
                        "driver_config": {"name": "local", "options": {"o": "x"}},
                    }
                ]
            },
            {
                "Mounts": [
                    {
                        "Type": "volume",
                        "Source": "v",
                        "Target": "/v",
                        "VolumeOptions": {
                            "NoCopy": True,
                            "Labels": {"a": "b"},
                            "DriverConfig": {"Name": "local", "Options": {"o": "x"}},
                        },
                    }
                ]
            },
        ),
    ],
)
def test_container(options, wire):
    assert container_of(**options) == dict(wire, Image="web:1")


@pytest.mark.parametrize(
    ("options", "path", "wire"),
    [
        ({"limits": {"cpus": 0.5, "memory": "64M"}}, "Resources", {"Limits": {"NanoCPUs": 5 * 10**8, "MemoryBytes": 67108864}}),
        ({"reservations": {"memory": "1G"}}, "Resources", {"Reservations": {"MemoryBytes": 1073741824}}),
        ({"restart_config": {"condition": "none"}}, "RestartPolicy", {"Condition": "none"}),
        ({"restart_config": {"delay": "0s", "max_attempts": 3}}, "RestartPolicy", {"Delay": 0, "MaxAttempts": 3}),
        ({"restart_config": {"window": "2"}}, "RestartPolicy", {"Window": 2 * 10**9}),
        ({"placement": {"constraints": ["node.role==worker"]}}, "Placement", {"Constraints": ["node.role==worker"]}),
    ],
)
def test_task(options, path, wire):
    assert spec_of(**options)["TaskTemplate"][path] == wire


def test_ports_labels_and_updates():
    port = {"mode": "host", "published_port": 8080, "target_port": 80, "protocol": "udp"}
    spec = spec_of(publish=[port], labels={"a": 1}, update_config={"parallelism": 0})
    wire = {"Protocol": "udp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}
    assert spec["EndpointSpec"] == {"Ports": [wire]}
    assert spec["Labels"] == {"a": "1"}
    assert spec["UpdateConfig"] == {"Parallelism": 0}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stop_grace_period": "soon"}, "stop_grace_period"),
        ({"stop_grace_period": "10x"}, "stop_grace_period"),
        ({"limits": {"memory": "much"}}, "limits.memory"),
        ({"command": "a 'b"}, "command"),
        ({"command": 3}, "command"),
        ({"env": 3}, "env"),
        ({"mounts": [{"target": "/a", "source": "/a"}, {"type": "tmpfs", "target": "/t", "tmpfs_size": "x"}]}, "mounts[1].tmpfs_size"),
        ({"healthcheck": {"timeout": "1 day"}}, "healthcheck.timeout"),
    ],
)
def test_what_cannot_be_understood_is_named(options, named):
    with pytest.raises(_spec.BadOption) as refused:
        spec_of(**options)
    assert str(refused.value).startswith(named + ":")
