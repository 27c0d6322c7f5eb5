# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab consists of, as one file: written before anything is made, so that `clean` knows after any crash."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class HostRecord:
    """`base` is the directory its disk stands on; `small` maps mount points of small file systems to their sizes."""

    number: int
    flavour: str
    base: str
    small: dict[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """`cuts` are pairs of host names, from and to; `*` is anyone."""

    number: int
    nat: bool = False
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    cuts: list[tuple[str, str]] = field(default_factory=list)


def load(path: Path) -> Record | None:
    if not path.exists():
        return None
    data = json.loads(path.read_text())
    hosts = {name: HostRecord(**host) for name, host in data.pop("hosts").items()}
    cuts = [(source, target) for source, target in data.pop("cuts")]
    return Record(hosts=hosts, cuts=cuts, **data)


def save(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(record), indent=2) + "\n")
    new.rename(path)
