# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids, units, secrets, errors, the ladder of task states and the codec."""

from __future__ import annotations

import msgspec
import pytest

from covey.model import codec, errors, ids, units
from covey.model.objects import Service, Task, kind_of
from covey.model.secret import Secret
from covey.model.session import FromDispatcher, FromWorker, Heartbeat, Hello, Redirect, StatusReport
from covey.model.spec import Global, Replicated, ServiceMode, ServiceSpec
from covey.model.tasks import DESIRED, TaskState, failed, holds_resources, is_terminal, is_wanted, parse_state


def test_ids_have_a_fixed_width_and_order():
    assert ids.to_id(0) == "0" * 25
    assert ids.to_id(35) == "0" * 24 + "z"
    assert ids.to_id(2**128 - 1) == "f5lxx1zz5pnorynqglhzmsp33"
    assert ids.to_id(36) > ids.to_id(35)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"), (3 << 30, "3 GiB"), (9 << 40, "9 TiB")],
)
def test_bytes_for_people(count, text):
    assert units.human_bytes(count) == text


def test_even_the_largest_numbers_are_tebibytes():
    assert units.human_bytes(2048 << 40) == "2048 TiB"


def test_times_and_durations():
    assert units.rfc3339(0) == "0001-01-01T00:00:00Z"
    assert units.rfc3339(1.5) == "1970-01-01T00:00:01.500000Z"
    assert units.seconds(1_500_000_000) == 1.5


def test_a_secret_hides_itself():
    secret = Secret(b"hush")
    assert "hush" not in f"{secret!r} {secret}"
    assert secret.reveal() == b"hush"
    assert secret == Secret(b"hush")
    assert secret != Secret(b"")
    assert secret != b"hush"
    assert len({secret, Secret(b"hush")}) == 1
    assert bool(secret)
    assert not Secret(b"")


class Sealed(msgspec.Struct):
    secret: Secret


def test_secrets_travel_in_the_codec_and_never_to_people():
    sealed = Sealed(Secret(b"hush"))
    assert codec.decode(codec.encode(sealed), Sealed) == sealed
    with pytest.raises(TypeError):
        codec.to_plain(sealed)
    assert codec.to_plain(Global()) == {}


def test_text_that_is_no_utf8_is_an_error_of_the_codec():
    with pytest.raises(msgspec.DecodeError, match="utf-8"):
        codec.decode(codec.encode("x").replace(b"x", b"\xff"), str)


def test_the_codec_takes_nothing_it_does_not_know():
    with pytest.raises(NotImplementedError, match="object has no form on the wire"):
        codec.encode(object())

    class Odd(msgspec.Struct):
        field: errors.CoveyError

    for data, kind in (({"field": b"x"}, Odd), ({"secret": 5}, Sealed)):
        with pytest.raises((NotImplementedError, msgspec.ValidationError)):
            codec.decode(codec.encode(data), kind)


def test_errors_speak_to_people():
    assert str(errors.InvalidArgument("is wrong", "A.B")) == "A.B: is wrong"
    assert str(errors.InvalidArgument("is wrong")) == "is wrong"
    assert str(errors.NotFound("node", "n1")) == "node n1 not found"
    assert "update out of sequence: service s is at version 9" in str(errors.OutOfSequence("service", "s", 7, 9))
    assert str(errors.NotLeader("n1")) == "this manager is not the leader; node n1 is"
    assert str(errors.NotLeader(None)) == "this manager is not the leader; none is known now"


def test_the_ladder_and_its_groups():
    assert [str(state) for state in sorted(TaskState)][:3] == ["new", "pending", "assigned"]
    assert {state for state in TaskState if is_terminal(state)} == {
        TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.FAILED, TaskState.REJECTED, TaskState.REMOVE,
        TaskState.ORPHANED,
    }  # fmt: skip
    assert {state for state in DESIRED if is_wanted(state)} == {TaskState.READY, TaskState.RUNNING, TaskState.COMPLETE}
    assert {state for state in TaskState if failed(state)} == {TaskState.FAILED, TaskState.REJECTED}
    assert not holds_resources(TaskState.NEW)
    assert holds_resources(TaskState.RUNNING)
    assert not holds_resources(TaskState.COMPLETE)
    assert parse_state("running") is TaskState.RUNNING
    with pytest.raises(KeyError):
        parse_state("flying")


def test_services_count_their_slots():
    def service(mode):
        return Service(id="s", spec=ServiceSpec(name="web", mode=mode))

    assert service(None).replicas == service(ServiceMode(replicated=Replicated())).replicas == 1
    assert service(ServiceMode(replicated=Replicated(replicas=0))).replicas == 0
    assert service(ServiceMode(global_=Global())).is_global
    assert not service(None).is_global
    assert kind_of(service(None)) == "service"


def test_containers_are_named_as_the_peers():
    assert Task(id="t", service_id="s", service_name="web", slot=3).name == "web.3.t"
    assert Task(id="t", service_id="s", service_name="web", node_id="n1").name == "web.n1.t"


@pytest.mark.parametrize("message", [Heartbeat(), StatusReport(sequence=3, statuses={})])
def test_messages_carry_their_names(message):
    assert codec.decode(codec.encode(message), FromWorker) == message


def test_each_side_has_its_own_messages():
    redirect = Redirect(leader=None, managers=())
    assert codec.decode(codec.encode(redirect), FromDispatcher) == redirect
    with pytest.raises(msgspec.ValidationError):
        codec.decode(codec.encode(redirect), FromWorker)
    assert Hello.__struct_config__.tag == "Hello"
