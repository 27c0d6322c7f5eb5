# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/covey/coveyd.toml: what this host decides for itself.  Everything about the cluster is in the cluster's state.

A file with a mistake stops the daemon from starting, with the line to look at: a typo must not become a default.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path

import msgspec

from covey.model.errors import BadConfig

LEVELS = ("debug", "info", "warning", "error")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of the file, with their defaults."""

    state_dir: Path = Path("/var/lib/covey")
    runtime_dir: Path = Path("/run/covey")
    socket: Path = Path("/run/covey/covey.sock")
    socket_group: str = "covey"
    listen_addr: str = "0.0.0.0:2377"
    raft_listen_addr: str = "0.0.0.0:2378"
    advertise_addr: str = ""  # empty: the address of the default route
    engine: str = "unix:///var/run/docker.sock"
    log_level: str = "info"


def read_config(path: Path) -> Config:
    """The configuration in ``path``; BadConfig names file, line and what to mend."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> Config:
    """As ``read_config``, from the text of a file called ``name``."""
    try:
        config = msgspec.convert(tomllib.loads(text), Config, dec_hook=_to_path)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{name}: {error}") from error
    except msgspec.ValidationError as error:
        raise BadConfig(f"{name}{_line_of(text, str(error))}: {_explain(str(error))}") from error
    for key in ("listen_addr", "raft_listen_addr"):
        _check_address(getattr(config, key), f"{name}{_line_of(text, f'`$.{key}`')}: {key}")
    if config.log_level not in LEVELS:
        where = _line_of(text, "`$.log_level`")
        raise BadConfig(f"{name}{where}: log_level is {config.log_level!r}; it takes one of {', '.join(LEVELS)}")
    if not config.engine.startswith("unix:///"):
        where = _line_of(text, "`$.engine`")
        raise BadConfig(f"{name}{where}: engine is {config.engine!r}; it takes a local socket, unix:///path")
    return config


def _to_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str) and value.startswith("/"):
        return Path(value)
    raise ValueError(f"{value!r} is not an absolute path")


def _key_in(message: str) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", message)
    located = re.search(r"`\$\.([A-Za-z0-9_]+)", message)
    return unknown[1] if unknown else located[1] if located else ""


def _line_of(text: str, message: str) -> str:
    key = _key_in(message)
    pattern = re.compile(rf"^\s*\[?\[?{re.escape(key)}\b") if key else None
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern and pattern.match(line):
            return f", line {number}"
    return ""


def _explain(message: str) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if not unknown:
        return message
    known = ", ".join(field.name for field in msgspec.structs.fields(Config))
    return f"unknown key {unknown[1]!r}; known are {known}"


def _check_address(value: str, where: str) -> None:
    host, _, port = value.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65536:
            raise ValueError(port)
    except ValueError:
        raise BadConfig(f"{where} is {value!r}; it takes ADDRESS:PORT, for example 0.0.0.0:2377") from None
