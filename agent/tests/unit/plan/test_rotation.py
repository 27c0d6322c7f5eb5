# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation of the root asks nodes in bounded batches, waits for each of them, and is over when all have moved."""

from __future__ import annotations

import pytest
from builders import node, replace, view

from covey.model.changes import Update
from covey.model.objects import Cluster, Node, NodeTLS, RootRotation
from covey.model.secret import Secret
from covey.plan.pipeline import settle
from covey.plan.rotation import BATCH, INTERVAL, has_moved, rotation

OLD, NEW = b"-- old root --\n", b"-- new root --\n"
NOW = 1000.0
TURNING = RootRotation(
    certificate=NEW,
    key=Secret(b"new key"),
    cross_certificate=b"-- cross --\n",
    issuer_subject=b"new",
    issuer_public_key=b"new public",
    worker_token=Secret(b"new worker"),
    manager_token=Secret(b"new manager"),
    started_at=900.0,
)
CLUSTER = Cluster(
    id="c",
    version=1,
    root_certificate=OLD,
    root_key=Secret(b"old key"),
    worker_token=Secret(b"old worker"),
    manager_token=Secret(b"old manager"),
    rotation=TURNING,
)
UNMOVED = NodeTLS(trust_root=OLD, issuer_subject=b"old", issuer_public_key=b"old public")
MOVED = NodeTLS(trust_root=OLD + NEW, issuer_subject=b"new", issuer_public_key=b"new public")


def nodes(count: int, tls: NodeTLS = UNMOVED, **parts) -> list[Node]:
    return [node(f"n{number:03}", tls=tls, **parts) for number in range(count)]


def planned(*things, now: float = NOW):
    """What it wants of the cluster, and when to ask again."""
    plan = rotation(view(*things), now, iter(()).__next__)
    assert len(plan.changes) <= 1
    for change in plan.changes:
        assert isinstance(change, Update)
        assert isinstance(change.object, Cluster)
    return (plan.changes[0].object if plan.changes else None), plan.wake_at


def test_without_a_rotation_there_is_nothing_to_do():
    assert planned(*nodes(3)) == (None, None)
    assert planned(replace(CLUSTER, rotation=None), *nodes(3)) == (None, None)


def test_nodes_are_asked_a_batch_at_a_time():
    many = nodes(2 * BATCH + 5)
    cluster, now, told = CLUSTER, NOW, 0
    for expected in (BATCH, BATCH, 5):
        cluster, _ = planned(cluster, *many, now=now)
        assert len(cluster.rotation.told) == told + expected
        assert cluster.rotation.told_at == now
        told = len(cluster.rotation.told)
        if told < len(many):
            assert planned(cluster, *many, now=now + 1) == (None, now + INTERVAL)
        now += INTERVAL
    assert planned(cluster, *many, now=now) == (None, None), "now it is for the nodes to move"


def test_a_node_that_is_down_is_asked_when_it_is_back_and_holds_the_end_up():
    there, away = node("a", tls=MOVED), node("b", tls=UNMOVED, state="down")
    assert planned(CLUSTER, there, away) == (None, None)
    cluster, _ = planned(CLUSTER, there, node("b", tls=UNMOVED))
    assert cluster.rotation.told == ("b",)


def test_one_that_was_removed_holds_nothing_up():
    cluster, _ = planned(CLUSTER, node("a", tls=MOVED))
    assert cluster.rotation is None


def test_the_end_puts_the_new_root_and_its_tokens_in_place():
    cluster, _ = planned(CLUSTER, *nodes(3, MOVED))
    assert cluster == replace(
        CLUSTER,
        root_certificate=NEW,
        root_key=Secret(b"new key"),
        worker_token=Secret(b"new worker"),
        manager_token=Secret(b"new manager"),
        rotation=None,
    )


@pytest.mark.parametrize(
    "tls",
    [
        NodeTLS(),
        UNMOVED,
        replace(MOVED, trust_root=OLD),
        replace(MOVED, issuer_public_key=b"old public"),
        replace(MOVED, issuer_subject=b"old"),
    ],
)
def test_only_a_certificate_and_a_trusted_root_together_are_a_move(tls):
    assert not has_moved(node("a", tls=tls), TURNING)
    assert has_moved(node("a", tls=MOVED), TURNING)
    assert has_moved(node("a", tls=replace(MOVED, trust_root=NEW)), TURNING)


def test_a_node_that_never_came_is_waited_for():
    never = node("b", state="unknown")
    assert planned(CLUSTER, node("a", tls=MOVED), never) == (None, None)


def test_who_was_asked_and_is_gone_is_forgotten():
    cluster = replace(CLUSTER, rotation=replace(TURNING, told=("gone", "n000")))
    cluster, _ = planned(cluster, *nodes(2))
    assert cluster.rotation.told == ("n000", "n001")


def test_among_all_planners_it_comes_to_rest():
    plan = settle(view(CLUSTER, *nodes(40)), NOW, iter(()).__next__)
    (change,) = plan.changes
    assert len(change.object.rotation.told) == BATCH
    assert plan.wake_at == NOW + INTERVAL
