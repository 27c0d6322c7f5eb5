# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: defaults, and mistakes that name their line."""

from pathlib import Path

import pytest

from covey.daemon.config import Config, parse_config, read_config
from covey.model.errors import BadConfig


def test_an_empty_file_means_the_defaults():
    assert parse_config("", "f") == Config()


def test_keys_are_taken():
    config = parse_config('state_dir = "/srv/covey"\nlisten_addr = "[::]:2377"\n', "f")
    assert (config.state_dir, config.listen_addr) == (Path("/srv/covey"), "[::]:2377")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('# a comment\nstate_dri = "/x"\n', ["f, line 2", "unknown key 'state_dri'", "state_dir"]),
        ("\nlog_level = 3\n", ["f, line 2", "Expected `str`"]),
        ('log_level = "loud"\n', ["f, line 1", "debug, info"]),
        ('socket = "/a"\nlisten_addr = "2377"\n', ["f, line 2", "ADDRESS:PORT"]),
        ('engine = "tcp://1.2.3.4:2375"\n', ["f, line 1", "unix:///"]),
        ("socket = \n", ["f", "line 1"]),
        ('[engine]\nurl = "x"\n', ["f, line 1", "Expected `str`"]),
    ],
)
def test_a_mistake_names_its_line(text, words):
    with pytest.raises(BadConfig) as caught:
        parse_config(text, "f")
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadConfig, match="nothere"):
        read_config(tmp_path / "nothere")
