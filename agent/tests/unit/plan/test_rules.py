# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before it is stored: each with its path, and what would be right."""

from __future__ import annotations

import pytest
from builders import service, spec

from covey.model.errors import InvalidArgument
from covey.model.spec import (
    BindOptions,
    ContainerSpec,
    EndpointSpec,
    Global,
    HealthConfig,
    Limit,
    Mount,
    MountType,
    Placement,
    PortConfig,
    Replicated,
    Reservation,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    TmpfsOptions,
    UpdateConfig,
    VolumeOptions,
)
from covey.plan.image import problem
from covey.plan.rules import check_service

MIB, MS = 1 << 20, 1_000_000


def whole(name="web", **parts):
    return ServiceSpec(name=name, **{"task_template": TaskSpec(container_spec=ContainerSpec(image="a:1")), **parts})


def container(**parts):
    return whole(task_template=TaskSpec(container_spec=ContainerSpec(**{"image": "a:1", **parts})))


def task(**parts):
    return whole(task_template=TaskSpec(**{"container_spec": ContainerSpec(image="a:1"), **parts}))


def mounts(*each):
    return container(mounts=list(each))


def ports(*each):
    defaults = {"target_port": 80, "publish_mode": "host"}
    return whole(endpoint_spec=EndpointSpec(ports=[PortConfig(**{**defaults, **port}) for port in each]))


def limits(**parts):
    return task(resources=Resources(limits=Limit(**parts)))


def health(**parts):
    return container(healthcheck=HealthConfig(**parts))


C, R = "TaskTemplate.ContainerSpec", "TaskTemplate.Resources"

BAD = [
    (whole(""), "Name", "name must be provided"),
    (whole("bad name"), "Name", "name must be valid as a DNS name component"),
    (whole("-bad"), "Name", "name must be valid as a DNS name component"),
    (whole("bad_"), "Name", "name must be valid as a DNS name component"),
    (whole("x" * 64), "Name", "name must be 63 characters or fewer, this one has 64"),
    (whole(task_template=TaskSpec()), f"{C}.Image", "ContainerSpec: image reference must be provided"),
    (container(image="Bad"), f"{C}.Image", "repository name must be lowercase"),
    (whole(mode=ServiceMode(replicated=Replicated(), global_=Global())), "Mode", "must specify only one service mode"),
    (whole(mode=ServiceMode(replicated=Replicated(replicas=-1))), "Mode.Replicated.Replicas", "must not be negative"),
    (whole(mode=ServiceMode(replicated=Replicated(replicas=10**6))), "Mode.Replicated.Replicas", "more than"),
    (task(placement=Placement(constraints=["node.id==x", "node=x"])), "TaskTemplate.Placement.Constraints[1]",
     "constraint expected one operator from ==, !=; at position 4"),
    (task(force_update=-1), "TaskTemplate.ForceUpdate", "must not be negative"),
    (container(env=["A=b", "=c"]), f"{C}.Env[1]", "expected NAME=value"),
    (container(env=[""]), f"{C}.Env[0]", "expected NAME=value"),
    (container(stop_grace_period=-1), f"{C}.StopGracePeriod", "must not be negative"),
    (container(stop_signal="SIG TERM"), f"{C}.StopSignal", "expected a name such as SIGTERM"),
    (health(test=["CURL", "x"]), f"{C}.Healthcheck.Test[0]", "expected NONE, CMD or CMD-SHELL"),
    (health(test=["CMD"]), f"{C}.Healthcheck.Test", "needs a command"),
    (health(interval=5), f"{C}.Healthcheck.Interval", "at least 1 ms"),
    (health(timeout=-1), f"{C}.Healthcheck.Timeout", "at least 1 ms"),
    (health(start_period=MS - 1), f"{C}.Healthcheck.StartPeriod", "at least 1 ms"),
    (health(retries=-1), f"{C}.Healthcheck.Retries", "must not be negative"),
    (mounts(Mount(source="/a", target="b")), f"{C}.Mounts[0].Target", "must be an absolute path"),
    (mounts(Mount(source="/a", target="/")), f"{C}.Mounts[0].Target", "must not be the root"),
    (mounts(Mount(source="/a", target="/x"), Mount(source="/b", target="/x/")), f"{C}.Mounts[1].Target",
     "/x is the target of Mounts[0] already"),
    (mounts(Mount(target="/x")), f"{C}.Mounts[0].Source", "a bind needs an absolute path on the host"),
    (mounts(Mount(type=MountType.TMPFS, source="/a", target="/x")), f"{C}.Mounts[0].Source", "has no source"),
    (mounts(Mount(type=MountType.VOLUME, source="/a", target="/x")), f"{C}.Mounts[0].Source", "use type bind"),
    (mounts(Mount(source="/a", target="/x", tmpfs_options=TmpfsOptions())), f"{C}.Mounts[0].TmpfsOptions",
     "go with mounts of type tmpfs only"),
    (limits(memory_bytes=100), f"{R}.Limits.MemoryBytes", "invalid memory value 100: Must be at least 4MiB"),
    (limits(memory_bytes=-1), f"{R}.Limits.MemoryBytes", "Must be at least 4MiB"),
    (limits(nano_cpus=100), f"{R}.Limits.NanoCPUs", "invalid cpu value 1e-07: Must be at least 0.001"),
    (task(resources=Resources(reservations=Reservation(memory_bytes=1))), f"{R}.Reservations.MemoryBytes", "4MiB"),
    (task(resources=Resources(limits=Limit(memory_bytes=4 * MIB), reservations=Reservation(memory_bytes=5 * MIB))),
     f"{R}.Reservations.MemoryBytes", "above the limit"),
    (task(resources=Resources(limits=Limit(nano_cpus=10**9), reservations=Reservation(nano_cpus=2 * 10**9))),
     f"{R}.Reservations.NanoCPUs", "above the limit"),
    (task(restart_policy=RestartPolicy(delay=-1)), "TaskTemplate.RestartPolicy.Delay", "must not be negative"),
    (task(restart_policy=RestartPolicy(window=-1)), "TaskTemplate.RestartPolicy.Window", "must not be negative"),
    (task(restart_policy=RestartPolicy(max_attempts=-1)), "TaskTemplate.RestartPolicy.MaxAttempts", "negative"),
    (whole(update_config=UpdateConfig(parallelism=-1)), "UpdateConfig.Parallelism", "must not be negative"),
    (ports({"protocol": "icmp"}), "EndpointSpec.Ports[0].Protocol", "expected one of tcp, udp, sctp"),
    (ports({"publish_mode": "mesh"}), "EndpointSpec.Ports[0].PublishMode", "expected host or ingress"),
    (ports({"publish_mode": None}), "EndpointSpec.Ports[0].PublishMode", "--publish mode=host,target=80"),
    (ports({"target_port": 0}), "EndpointSpec.Ports[0].TargetPort", "between 1 and 65535"),
    (ports({"published_port": 65536}), "EndpointSpec.Ports[0].PublishedPort", "between 0 and 65535"),
    (ports({"published_port": 9}, {"protocol": "udp", "published_port": 9}, {"published_port": 9}),
     "EndpointSpec.Ports[2].PublishedPort", "9/tcp is published by Ports[0] already"),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "path", "text"), BAD)
def test_refuses(declared, path, text):
    with pytest.raises(InvalidArgument) as caught:
        check_service(declared)
    assert caught.value.path == path
    assert str(caught.value).startswith(path + ": ")
    assert text in str(caught.value)


GOOD = [
    whole(), whole("a"), whole("a.b-c_d9"), whole("x" * 63), spec("web", 3), spec("agent", None),
    whole(mode=ServiceMode(replicated=Replicated(replicas=0))),
    container(env=["A=", "B"], stop_signal="SIGRTMIN+3", stop_grace_period=0), container(stop_signal="9"),
    health(test=["NONE"]), health(test=[]), health(test=["CMD-SHELL", "true"], interval=MS, timeout=0, retries=3),
    mounts(
        Mount(source="/a", target="/x", bind_options=BindOptions()),
        Mount(type=MountType.VOLUME, source="data", target="/y", volume_options=VolumeOptions()),
        Mount(type=MountType.VOLUME, target="/z"), Mount(type=MountType.TMPFS, target="/w"),
    ),
    task(resources=Resources(limits=Limit(memory_bytes=0), reservations=Reservation(memory_bytes=4 * MIB))),
    task(resources=Resources(limits=Limit(), reservations=Reservation())),
    task(restart_policy=RestartPolicy(delay=0, window=0, max_attempts=0)),
    whole(update_config=UpdateConfig(parallelism=0)), whole(endpoint_spec=EndpointSpec()),
    ports({"published_port": 9}, {"protocol": "udp", "published_port": 9}, {}, {}),
    task(placement=Placement(constraints=["node.role==worker"])),
]  # fmt: skip


@pytest.mark.parametrize("declared", GOOD)
def test_accepts(declared):
    check_service(declared)


def test_the_mode_of_a_service_stays():
    check_service(spec("web", 5), service("web", 3))
    check_service(spec("agent", None), service("agent", None))
    for declared, current in ((spec("web", None), service("web", 3)), (whole("agent"), service("agent", None))):
        with pytest.raises(InvalidArgument, match="service mode change is not allowed") as caught:
            check_service(declared, current)
        assert caught.value.path == "Mode"


@pytest.mark.parametrize(
    "reference",
    [
        "a", "busybox", "busybox:1.36", "library/busybox", "docker.io/library/busybox:latest", "localhost:5000/a/b:c",
        "[::1]:5000/a", "Registry.example:443/a__b/c-d.e", "a@sha256:" + "0" * 64, "a:1@sha256:" + "f" * 64, "a:V_1.x",
    ],
)  # fmt: skip
def test_image_references(reference):
    assert problem(reference) == ""


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("Busybox", "must be lowercase"), ("a b", "is not a valid repository/tag"), ("a:", "is not a valid"),
        ("a@sha256:123", "is not a valid"), ("a:" + "t" * 129, "is not a valid"), ("/a", "is not a valid"),
        ("a//b", "is not a valid"), ("http://a/b", "is not a valid"), ("a" * 256, "more than 255 characters"),
        ("A B", "expected [registry[:port]/]name[:tag][@digest]"), ("a\n", "is not a valid"),
    ],
)  # fmt: skip
def test_image_references_that_are_none(reference, text):
    assert text in problem(reference)
