# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker keeps on its disk, so that it can go on without managers: assignments, statuses, managers' addresses.

``assignments`` is msgpack behind a line that names the format and a digest, ``managers.json`` is for people too.  Each
is replaced as a whole.  What cannot be read is refused, never deleted: the containers it speaks of still run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from covey import durable
from covey.model import codec
from covey.model.codec import UNREADABLE
from covey.model.errors import BadState
from covey.model.objects import NodeDescription, Record, Task, TaskStatus
from covey.model.session import ManagerAddress

ASSIGNMENTS, MANAGERS = "assignments", "managers.json"
FORMAT = 1
_HEAD = b"covey worker assignments, format "


class Page(Record, kw_only=True):
    """All that a worker must not forget."""

    node_id: str
    tasks: tuple[Task, ...] = ()
    statuses: dict[str, TaskStatus] = msgspec.field(default_factory=dict)
    description: NodeDescription | None = None


class _ManagersFile(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    version: int
    managers: tuple[ManagerAddress, ...]
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Book:
    """The directory, and whose it is."""

    directory: Path
    node_id: str

    def load(self) -> Page:
        """The last page written, an empty one where there is none; BadState when it is damaged or foreign."""
        path = self.directory / ASSIGNMENTS
        page = _read(path)
        if page is None:
            return Page(node_id=self.node_id)
        if page.node_id != self.node_id:
            raise _refusal(path, f"it belongs to node {page.node_id}, and this is node {self.node_id}")
        return page

    def save(self, page: Page) -> None:
        """Durable when it returns; OSError when the disk refuses, and then the old page still stands."""
        body = codec.encode(page)
        head = _HEAD + f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode()
        durable.replace(self.directory / ASSIGNMENTS, head + body)

    def load_managers(self) -> tuple[ManagerAddress, ...]:
        """Whom to turn to, as last told; BadState when the file is damaged."""
        return self._load_managers().managers

    def load_epoch(self) -> int:
        """The latest epoch of the cluster that was heard of."""
        return self._load_managers().epoch

    def _load_managers(self) -> _ManagersFile:
        path = self.directory / MANAGERS
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_ManagersFile)
        except FileNotFoundError:
            return _ManagersFile(version=FORMAT, managers=())
        except UNREADABLE as error:
            raise _refusal(path, str(error)) from error
        if content.version > FORMAT:
            raise _refusal(path, f"a newer release wrote it (format {content.version}, this one reads {FORMAT})")
        return content

    def save_managers(self, managers: tuple[ManagerAddress, ...], epoch: int = 0) -> None:
        """Durable when it returns."""
        content = msgspec.json.encode(_ManagersFile(version=FORMAT, managers=managers, epoch=epoch))
        durable.replace(self.directory / MANAGERS, msgspec.json.format(content, indent=2) + b"\n")


def owner(directory: Path) -> str:
    """The node whose assignments a directory holds; empty if it holds none.  BadState when they are damaged."""
    page = _read(directory / ASSIGNMENTS)
    return "" if page is None else page.node_id


def _read(path: Path) -> Page | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head, newline, body = data.partition(b"\n")
    if not head.startswith(_HEAD) or not newline:
        raise _refusal(path, "it does not begin as this agent writes it")
    version, _, digest = head.removeprefix(_HEAD).decode("ascii", "replace").partition(" ")
    if version != str(FORMAT):
        raise _refusal(path, f"it has format {version}, and this release reads {FORMAT}")
    if digest != hashlib.sha256(body).hexdigest():
        raise _refusal(path, "it is truncated or damaged")
    try:
        page: Page = codec.decode(body, Page)
    except msgspec.DecodeError as error:
        raise _refusal(path, str(error)) from error
    return page


def _refusal(path: Path, why: str) -> BadState:
    return BadState(
        f"{path}: {why}. Nothing was deleted and running containers were not touched. Restore the file, or move it "
        "away: the agent then learns its assignments from the managers again, and finds its containers by their labels"
    )
