# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicated state machine: transactions, versions, the split of desired and observed, indexes, deduplication."""

from __future__ import annotations

import msgspec
import pytest

from covey.model.changes import Batch, Create, Delete, ObserveNode, ObserveTask, Retire, SetUpdateStatus, Update
from covey.model.errors import Conflict, InvalidArgument, NotFound, OutOfSequence
from covey.model.objects import (
    Cluster,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Service,
    StoredConfig,
    StoredSecret,
    Task,
    TaskStatus,
    UpdateState,
    UpdateStatus,
)
from covey.model.secret import Secret
from covey.model.spec import (
    Availability,
    ContainerSpec,
    DependencySpec,
    NodeSpec,
    SecretReference,
    ServiceSpec,
    TaskSpec,
)
from covey.model.tasks import TaskState
from covey.state.apply import REMEMBERED_REQUESTS, Outcome, apply
from covey.state.codec import decode_batch, decode_view, encode_batch, encode_view
from covey.state.view import View

replace = msgspec.structs.replace


def batch(*changes, request="", fence=0, at=100.0):
    return Batch(request_id=request, at=at, changes=changes, fence=fence)


def after(view: View, *changes, **kwargs) -> View:
    view, outcome = apply(view, batch(*changes, **kwargs), view.index + 1)
    assert outcome.error is None, outcome.error
    return view


def refused(view: View, *changes, **kwargs) -> Exception:
    unchanged, outcome = apply(view, batch(*changes, **kwargs), view.index + 1)
    assert outcome.error is not None
    assert (unchanged.services, unchanged.tasks, unchanged.nodes) == (view.services, view.tasks, view.nodes)
    return outcome.error


def web(**fields) -> Service:
    return Service(id="s1", spec=ServiceSpec(name="web"), **fields)


def task(id_="t1", **fields) -> Task:
    return Task(id=id_, service_id="s1", service_name="web", slot=1, **fields)


def test_create_sets_version_and_times():
    view = after(View(index=6), Create(web()), at=42.0)
    assert view.services["s1"].version == 7
    assert view.services["s1"].created_at == 42.0
    assert view.service_named("web") is view.services["s1"]


def test_a_taken_name_or_id_is_refused():
    view = after(View(), Create(web()))
    assert "service web already exists" in str(refused(view, Create(Service(id="s2", spec=ServiceSpec(name="web")))))
    assert isinstance(refused(view, Create(web())), Conflict)


def test_update_from_a_stale_version_is_out_of_sequence():
    view = after(View(), Create(web()))
    view = after(view, Update(view.services["s1"]))
    error = refused(view, Update(web(version=1)))
    assert isinstance(error, OutOfSequence)
    assert "update out of sequence" in str(error)


def test_a_batch_holds_whole_or_not_at_all():
    view = after(View(), Create(web()))
    assert isinstance(refused(view, Create(task()), Delete("task", "nope", 1)), NotFound)


def test_an_observation_never_moves_the_version_nor_a_task_down_the_ladder():
    view = after(View(), Create(task()))
    view = after(view, ObserveTask("t1", TaskStatus(state=TaskState.RUNNING)))
    view = after(view, ObserveTask("t1", TaskStatus(state=TaskState.STARTING)))
    assert view.tasks["t1"].status.state is TaskState.RUNNING
    assert view.tasks["t1"].version == 1
    assert after(view, ObserveTask("gone", TaskStatus())).tasks == view.tasks


def test_update_keeps_what_was_observed_meanwhile():
    view = after(View(), Create(task()), Create(Node(id="n1")))
    read_task, read_node = view.tasks["t1"], view.nodes["n1"]
    ready = NodeStatus(state=NodeState.READY)
    running = TaskStatus(state=TaskState.RUNNING)
    view = after(view, ObserveTask("t1", running), ObserveNode("n1", ready, NodeDescription(hostname="a")))
    view = after(
        view,
        Update(replace(read_task, desired_state=TaskState.SHUTDOWN)),
        Update(replace(read_node, spec=NodeSpec(availability=Availability.DRAIN))),
    )
    assert view.tasks["t1"].status == running
    assert view.tasks["t1"].desired_state is TaskState.SHUTDOWN
    assert (view.nodes["n1"].status, view.nodes["n1"].description.hostname) == (ready, "a")
    assert view.nodes["n1"].spec.availability is Availability.DRAIN


def test_update_status_of_a_superseded_spec_is_ignored():
    view = after(View(), Create(web()))
    status = UpdateStatus(state=UpdateState.UPDATING)
    assert after(view, SetUpdateStatus("s1", 1, status)).services["s1"].update_status == status
    assert after(view, SetUpdateStatus("s1", 9, status)).services["s1"].update_status is None


def test_update_status_survives_updates_until_the_spec_is_another():
    view = after(View(), Create(web()))
    status = UpdateStatus(state=UpdateState.PAUSED)
    read = view.services["s1"]
    view = after(view, SetUpdateStatus("s1", 1, status))
    view = after(view, Update(read))
    assert view.services["s1"].update_status == status
    view = after(view, Update(replace(view.services["s1"], spec=ServiceSpec(name="web", labels={"a": "b"}))))
    assert view.services["s1"].update_status is None


def test_milestones_of_a_task_are_kept_by_the_managers_clock():
    view = after(View(), Create(task()), at=1.0)
    read = view.tasks["t1"]
    view = after(view, ObserveTask("t1", TaskStatus(state=TaskState.STARTING, timestamp=77.0)), at=2.0)
    assert (view.tasks["t1"].running_at, view.tasks["t1"].ended_at) == (0.0, 0.0)
    for at in (3.0, 4.0):
        view = after(view, ObserveTask("t1", TaskStatus(state=TaskState.RUNNING, timestamp=77.0)), at=at)
    for at in (5.0, 6.0):
        view = after(view, ObserveTask("t1", TaskStatus(state=TaskState.FAILED, timestamp=77.0)), at=at)
    view = after(view, Update(read), at=7.0)
    assert (view.tasks["t1"].running_at, view.tasks["t1"].ended_at) == (3.0, 5.0)


def test_an_update_may_bring_a_status_further_up():
    view = after(View(), Create(task()))
    orphaned = replace(view.tasks["t1"], status=TaskStatus(state=TaskState.ORPHANED), ended_at=9.0)
    view = after(view, Update(orphaned))
    assert (view.tasks["t1"].status.state, view.tasks["t1"].ended_at) == (TaskState.ORPHANED, 9.0)
    explained = replace(view.tasks["t1"], status=TaskStatus(state=TaskState.ORPHANED, err="why"))
    assert after(view, Update(explained)).tasks["t1"].status.err == "why"


def test_observations_and_status_of_what_is_gone_are_ignored():
    view = after(View(), ObserveNode("gone"), SetUpdateStatus("gone", 1, None), ObserveTask("gone", TaskStatus()))
    assert (view.nodes, view.services, view.tasks) == ({}, {}, {})


def test_a_deletion_of_an_unknown_kind_finds_nothing():
    assert str(refused(View(), Delete("moon", "m1", 1))) == "moon m1 not found"


def test_a_service_that_is_removed_frees_its_name():
    view = after(View(), Create(web()))
    view = after(view, Delete("service", "s1", 1))
    assert view.service_named("web") is None
    assert after(view, Create(web()))


def test_clusters_are_updated_whole_and_found():
    with pytest.raises(NotFound):
        _ = View().cluster
    view = after(View(), Create(Cluster(id="c1")))
    view = after(view, Update(replace(view.cluster, root_certificate=b"new")))
    assert view.cluster.root_certificate == b"new"


def test_tasks_move_between_groups_when_their_node_changes():
    view = after(View(), Create(task(node_id="n1")), Create(task("t2", node_id="n1")))
    view = after(view, Update(replace(view.tasks["t1"], node_id="n2")))
    assert {t.id for t in view.tasks_on("n1")} == {"t2"}
    assert {t.id for t in view.tasks_on("n2")} == {"t1"}


def test_a_group_emptied_and_filled_in_one_batch():
    view = after(View(), Create(task(node_id="n1")))
    view = after(view, Delete("task", "t1", 1), Create(task("t2", node_id="n1")))
    assert [t.id for t in view.tasks_on("n1")] == [t.id for t in view.tasks_of("s1")] == ["t2"]


def test_indexes_follow_tasks():
    view = after(View(), Create(task()), Create(task("t2", node_id="n1")))
    view = after(view, Update(replace(view.tasks["t1"], node_id="n1")))
    assert {t.id for t in view.tasks_of("s1")} == {t.id for t in view.tasks_on("n1")} == {"t1", "t2"}
    older = view
    view = after(view, Delete("task", "t1", view.tasks["t1"].version), Delete("task", "t2", view.tasks["t2"].version))
    assert not view.by_node
    assert not view.by_service
    assert {t.id for t in older.tasks_on("n1")} == {"t1", "t2"}


def test_a_repeated_request_takes_effect_once_and_gets_the_first_answer():
    view, first = apply(View(), batch(Create(web()), request="r1"), 1)
    again, second = apply(view, batch(Create(web()), request="r1"), 2)
    assert (first, second) == (Outcome(1), Outcome(1))
    assert again.services == view.services
    assert again.index == 2


def test_a_repeated_refusal_is_refused_again():
    view = after(View(), Create(web()))
    view, _ = apply(view, batch(Create(web()), request="r1"), 2)
    _, again = apply(view, batch(request="r1"), 3)
    assert "already exists" in str(again.error)


def test_request_ids_are_forgotten_oldest_first():
    view = View()
    for number in range(REMEMBERED_REQUESTS + 1):
        view = after(view, request=f"r{number}")
    assert "r0" not in view.requests
    assert len(view.requests) == REMEMBERED_REQUESTS


def test_a_deposed_leader_is_fenced():
    view = after(View(), fence=5)
    assert "term 5" in str(refused(view, Create(web()), fence=4))
    assert after(view, Create(web())).services
    assert after(view, Create(web()), fence=5).services


def test_the_name_of_a_service_is_fixed():
    view = after(View(), Create(web()))
    renamed = replace(view.services["s1"], spec=ServiceSpec(name="other"))
    assert isinstance(refused(view, Update(renamed)), Conflict)


def test_find_takes_ids_names_and_prefixes():
    view = after(View(), Create(web()), Create(Node(id="abc1")), Create(Node(id="abc2")))
    view = after(view, ObserveNode("abc2", None, NodeDescription(hostname="host2")))
    assert view.find("service", "web").id == "s1"
    assert view.find("node", "host2").id == "abc2"
    assert view.find("node", "abc1").id == "abc1"
    view = after(view, Create(task("t9")))
    assert view.find("task", "web.1.t9").id == "t9"
    assert view.find("service", "s").id == "s1"
    with pytest.raises(NotFound, match="node  not found"):
        view.find("node", "")
    with pytest.raises(InvalidArgument, match="ambiguous"):
        view.find("node", "abc")
    with pytest.raises(NotFound, match="service nope not found"):
        view.find("service", "nope")


def test_batches_and_snapshots_survive_the_codec():
    cluster = Cluster(id="c1", root_key=Secret(b"k"), root_certificate=b"pem")
    changes = (
        Create(cluster), Create(web()), Create(task(node_id="n1")), Create(Node(id="n1")),
        ObserveTask("t1", TaskStatus(state=TaskState.RUNNING)), ObserveNode("n1", NodeStatus(state=NodeState.READY)),
    )  # fmt: skip
    sent = batch(*changes, Delete("node", "x", 3), SetUpdateStatus("s1", 1, None), request="r", fence=3)
    assert decode_batch(encode_batch(sent)) == sent
    view = after(View(), *changes, request="r", fence=3)
    assert decode_view(encode_view(view)) == view


# -- secrets and configs


def secret(id_="k1", name="key", data=b"x", **fields) -> StoredSecret:
    return StoredSecret(id=id_, spec=DependencySpec(name=name), data=Secret(data), **fields)


def web_with(*ids: str, **fields) -> Service:
    references = [SecretReference(secret_id=id_, secret_name="key") for id_ in ids]
    template = TaskSpec(container_spec=ContainerSpec(secrets=references))
    return Service(id="s1", spec=ServiceSpec(name="web", task_template=template), **fields)


def test_a_name_goes_over_to_a_new_value_in_one_batch():
    view = after(View(), Create(secret()))
    error = refused(view, Create(secret("k2")))
    assert "secret key already exists" in str(error)
    view = after(view, Retire("secret", "k1", 1), Create(secret("k2", data=b"y")))
    assert view.find("secret", "key").id == "k2"
    assert (view.secrets["k1"].retired, view.secrets["k1"].data.reveal()) == (True, b"x")
    with pytest.raises(NotFound):
        view.find("secret", "k1")
    assert isinstance(refused(view, Retire("secret", "k2", 1)), OutOfSequence)
    assert "no name to lose" in str(refused(view, Retire("secret", "k1", view.secrets["k1"].version)))
    assert decode_view(encode_view(view)) == view


def test_names_are_free_again_once_nobody_has_them():
    view = after(View(), Create(secret()), Create(StoredConfig(id="k1", spec=DependencySpec(name="key"))))
    view = after(view, Delete("secret", "k1", 1))
    assert (view.secret_names, view.config_names) == ({}, {"key": "k1"})
    after(view, Create(secret("k2")))


def test_an_id_has_one_value_for_ever():
    view = after(View(), Create(secret()))
    assert "one value for ever" in str(refused(view, Update(secret(data=b"y", version=1))))
    assert "cannot be changed (key to new)" in str(refused(view, Update(secret(name="new", version=1))))
    labelled = DependencySpec(name="key", labels={"a": "b"})
    view = after(view, Update(replace(view.secrets["k1"], spec=labelled)))
    assert view.secrets["k1"].spec.labels == {"a": "b"}


def test_what_a_service_refers_to_is_there():
    assert "refers to secret key (k1), which is gone" in str(refused(View(), Create(web_with("k1"))))
    view = after(View(), Create(secret()), Create(web_with("k1")))
    assert "secret key is in use by service web" in str(refused(view, Delete("secret", "k1", 1)))
    assert "which is gone" in str(refused(view, Update(web_with("k1", "k2", version=1))))
    view = after(view, Update(web_with(version=1)))
    assert after(view, Delete("secret", "k1", 1)).secrets == {}


def test_batches_with_secrets_survive_their_encoding():
    written = batch(Retire("secret", "k1", 1), Create(secret("k2")))
    assert decode_batch(encode_batch(written)) == written
    assert "x" not in repr(secret().data)
