# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's texts and names, without a host: refusals, packet rules, records, images."""

from pathlib import Path

import pytest

from covey_lab import record
from covey_lab.cli import main
from covey_lab.images import Image, digest
from covey_lab.network import ANYONE, Cut, rules
from covey_lab.places import Net, check_host_name, check_lab_name
from covey_lab.record import HostRecord, Record
from covey_lab.run import LabError, run
from covey_lab.waiting import wait_until


@pytest.mark.parametrize("name", ["", "Demo", "a-b", "1a", "../x"])
def test_a_lab_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        check_lab_name(name)


@pytest.mark.parametrize("name", ["", "_registry", "a/b", "a.b", "-a"])
def test_a_host_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="host name"):
        check_host_name(name)


def test_interface_names_fit_the_kernel() -> None:
    net = Net(250)
    assert max(len(net.bridge), len(net.port(250))) <= 15


def test_one_way_drops_one_direction_only() -> None:
    text = rules(Net(7), [Cut(1, 2)], nat=False)
    assert 'iifname "cv7-1" oifname "cv7-2" drop' in text
    assert text.count("drop") == 1
    assert "masquerade" not in text


def test_cut_from_everyone_names_one_end() -> None:
    text = rules(Net(7), [Cut(1, ANYONE), Cut(ANYONE, 1)], nat=True)
    assert 'iifname "cv7-1" drop' in text
    assert 'oifname "cv7-1" drop' in text
    assert "masquerade" in text


def test_a_record_reads_back_as_written(tmp_path: Path) -> None:
    written = Record(3, True, {"a": HostRecord(1, "docker", "/base", {"/small": "8M"})}, [("a", "*")])
    record.save(tmp_path / "lab.json", written)
    assert record.load(tmp_path / "lab.json") == written


def test_an_image_has_the_same_digest_every_time() -> None:
    first, second = (Image("covey/x", "1", ("sh",), ("A=1",), (b"layer",)) for _ in range(2))
    assert digest(first.manifest) == digest(second.manifest)
    assert first.id != Image("covey/x", "1", ("sh",), ("A=2",), (b"layer",)).id


def test_waiting_in_vain_tells_what_was_seen_last() -> None:
    with pytest.raises(LabError, match=r"waited 0 s for the moon; last seen: 0"):
        wait_until(lambda: 0, 0, "the moon")


def test_a_failed_command_is_shown_with_what_it_said() -> None:
    with pytest.raises(LabError, match=r"exit 3: sh -c(.|\n)*nope"):
        run("sh", "-c", "echo nope >&2; exit 3")


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(LabError, match="tools/prepare lab"):
        run("covey-no-such-program")


def test_the_command_line_answers_an_unknown_host_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lab", "nosuchlab", "plug", "a"]) == 1
    assert capsys.readouterr().err == "covey_lab: lab nosuchlab has no host a; make it with `up a`\n"
