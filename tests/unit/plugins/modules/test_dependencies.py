# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""covey.swarm.secret, config and their _info against an agent that keeps to the contract."""

from __future__ import annotations

import base64
import json

import pytest

HIDDEN = "correct horse battery staple"
KINDS = ("secret", "config")


@pytest.fixture(autouse=True)
def manager(agent):
    agent.be_in_a_cluster()


def value(agent, kind, name):
    return base64.b64decode(getattr(agent, kind + "s")[name][-1]["Data"])


@pytest.mark.parametrize("kind", KINDS)
def test_created_then_unchanged_then_another_value(agent, run, kind):
    first = run(kind, name="x", data="one")
    assert (first["changed"], first["action"]) == (True, "create")
    assert (first[kind + "_id"], first[kind + "_name"]) == ("x-1", "x")
    second = run(kind, name="x", data="one")
    assert (second["changed"], second[kind + "_id"]) == (False, "x-1")
    third = run(kind, name="x", data="two")
    assert (third["action"], third[kind + "_id"], "Value" in third["changes"]) == ("update", "x-2", True)
    assert value(agent, kind, "x") == b"two"


@pytest.mark.parametrize("kind", KINDS)
def test_the_value_may_be_text_base64_or_a_file(agent, run, tmp_path, kind):
    run(kind, name="text", data="gr\u00fcn")
    assert value(agent, kind, "text") == "gr\u00fcn".encode()
    run(kind, name="bytes", data="AP8=\n", data_is_b64=True)
    assert value(agent, kind, "bytes") == b"\x00\xff"
    source = tmp_path / "source"
    source.write_bytes(b"\x00file")
    run(kind, name="file", data_src=str(source))
    assert value(agent, kind, "file") == b"\x00file"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "state is present but any of the following are missing: data, data_src"),
        ({"data": "some data", "data_src": "/x"}, "mutually exclusive"),
        ({"data_src": "/nowhere/x"}, "data_src: /nowhere/x cannot be read: No such file"),
        ({"data": "!!!", "data_is_b64": True}, "data: data_is_b64 is set, but this is no base64"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(agent, run, kind, options, text):
    result = run(kind, name="x", **options)
    assert result["failed"]
    assert text in result["msg"]
    assert agent.writes() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_declared_is_whole(agent, run, kind):
    run(kind, name="x", data="{{.Node.ID}}", labels={"a": 1}, template_driver="golang")
    sent = agent.sent("/covey/v1/%ss/declare" % kind)
    assert sent["Spec"]["Labels"] == {"a": "1"}
    assert sent["Spec"]["Templating"] == {"Name": "golang"}
    run(kind, name="x", data="plain")
    assert set(agent.sent("/covey/v1/%ss/declare" % kind)["Spec"]) == {"Name", "Data"}


@pytest.mark.parametrize("kind", KINDS)
def test_check_mode_predicts_and_changes_nothing(agent, run, kind):
    predicted = run(kind, check=True, diff=True, name="x", data="one")
    assert agent.writes() == []
    done = run(kind, diff=True, name="x", data="one")
    assert {key: predicted[key] for key in ("changed", "action", "changes", "diff")} == {
        key: done[key] for key in ("changed", "action", "changes", "diff")
    }
    assert run(kind, check=True, name="x", state="absent")["changed"]
    assert value(agent, kind, "x") == b"one"


@pytest.mark.parametrize("kind", KINDS)
def test_removed(agent, run, kind):
    run(kind, name="x", data="one")
    assert run(kind, name="x", state="absent")["action"] == "remove"
    assert not run(kind, name="x", state="absent")["changed"]
    agent.refusals["/covey/v1/%ss/declare" % kind] = (400, "%s 'x' is in use by the following service: web" % kind)
    result = run(kind, name="x", state="absent")
    assert result["failed"]
    assert "is in use by the following service: web" in result["msg"]


def test_no_result_of_the_secret_module_holds_its_value(run):
    encoded = base64.b64encode(HIDDEN.encode()).decode()
    results = [
        run("secret", diff=True, name="x", data=HIDDEN),
        run("secret", diff=True, name="x", data=HIDDEN),
        run("secret", diff=True, check=True, name="x", data=HIDDEN + "2"),
        run("secret", diff=True, name="x", data=encoded, data_is_b64=True),
        run("secret", diff=True, name="x", data=HIDDEN, data_is_b64=True),
        run("secret_info", name="x"),
    ]
    for result in results:
        assert HIDDEN not in json.dumps(result)
        assert encoded not in json.dumps(result)


def test_a_diff_of_a_config_shows_its_text(run):
    run("config", name="x", data="one")
    shown = run("config", diff=True, name="x", data="two")["diff"]
    assert base64.b64decode(shown["after"]["Data"]) == b"two"


@pytest.mark.parametrize("kind", KINDS)
def test_info(run, kind):
    for name, data in (("x", "one"), ("x", "two"), ("y", "one")):
        run(kind, name=name, data=data)
    everything = run(kind + "_info")
    assert [one["Spec"]["Name"] for one in everything[kind + "s"]] == ["x", "y"]
    assert "exists" not in everything
    one = run(kind + "_info", name="x")
    assert (one["exists"], one[kind]["ID"]) == (True, "x-2")
    assert [kept["Number"] for kept in one["kept"]] == [2, 1]
    missing = run(kind + "_info", name="z")
    assert (missing["exists"], missing[kind + "s"], kind in missing) == (False, [], False)
