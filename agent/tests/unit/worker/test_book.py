# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import stat
from pathlib import Path

import pytest
from builders import S

from covey.model.errors import BadState
from covey.model.objects import NodeDescription, Task, TaskStatus
from covey.model.session import ManagerAddress
from covey.worker.book import ASSIGNMENTS, MANAGERS, Book, Page

PAGE = Page(
    node_id="n1",
    tasks=(Task(id="t1", service_id="s1", service_name="web", slot=1),),
    statuses={"t1": TaskStatus(state=S.RUNNING, err="")},
    description=NodeDescription(hostname="h1"),
)
KNOWN = (ManagerAddress(node_id="m1", address="10.0.0.1:2377"), ManagerAddress(node_id="m2", address="[::1]:2377"))


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "worker", "n1")


def test_what_is_written_is_read(book: Book) -> None:
    book.save(PAGE)
    book.save_managers(KNOWN, epoch=7)
    assert (book.load(), book.load_managers(), book.load_epoch()) == (PAGE, KNOWN, 7)
    assert stat.S_IMODE(book.directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in book.directory.iterdir()}
    assert modes == {ASSIGNMENTS: 0o600, MANAGERS: 0o600}


def test_where_nothing_was_written_there_is_an_empty_page(book: Book) -> None:
    assert (book.load(), book.load_managers()) == (Page(node_id="n1"), ())
    assert book.load_epoch() == 0


def test_any_cut_is_noticed_and_nothing_is_deleted(book: Book) -> None:
    book.save(PAGE)
    path = book.directory / ASSIGNMENTS
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadState, match=f"{path}: .*Nothing was deleted"):
            book.load()
        assert path.read_bytes() == whole[:length]


def test_any_changed_byte_is_noticed(book: Book) -> None:
    book.save(PAGE)
    path = book.directory / ASSIGNMENTS
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadState):
            book.load()


def test_another_nodes_page_is_refused_by_name(book: Book) -> None:
    book.save(PAGE)
    with pytest.raises(BadState, match="it belongs to node n1, and this is node n2"):
        Book(book.directory, "n2").load()


def test_a_newer_format_is_refused_as_such(book: Book) -> None:
    book.save(PAGE)
    path = book.directory / ASSIGNMENTS
    path.write_bytes(path.read_bytes().replace(b"format 1 ", b"format 2 ", 1))
    with pytest.raises(BadState, match="it has format 2, and this release reads 1"):
        book.load()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "managers.json"),
        ("{", "managers.json"),
        ('{"Version": 1}', "missing required field `Managers`"),
        ('{"Version": 2, "Managers": []}', "a newer release wrote it"),
    ],
)
def test_a_managers_file_that_cannot_be_read_is_refused(book: Book, content: str, words: str) -> None:
    book.directory.mkdir()
    path = book.directory / MANAGERS
    path.write_text(content)
    with pytest.raises(BadState, match=words):
        book.load_managers()
    assert path.read_text() == content


def test_a_write_that_fails_leaves_the_old_page(book: Book) -> None:
    book.save(PAGE)
    (book.directory / (ASSIGNMENTS + ".new")).mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        book.save(Page(node_id="n1"))
    assert book.load() == PAGE
