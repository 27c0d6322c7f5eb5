# SPDX-License-Identifier: GPL-3.0-or-later
"""pytest with hosts: `-p covey_lab.plugin`. Fixtures `lab`, `hosts`, `registry`; on failure build/lab-logs/TEST/HOST/.

Every pytest process (so every xdist worker, and every person on one machine) has a lab of its own: `test1`, `test2`
and so on, the first that no other process holds. Those of runs that crashed are taken down by whoever comes next.
"""

import fcntl
import itertools
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import pytest

from covey_lab.collect import collect
from covey_lab.host import Host
from covey_lab.images import archive
from covey_lab.lab import Lab, all_labs
from covey_lab.places import Places
from covey_lab.registry import Registry

HOSTS = ("one", "two", "three")
OPEN = pytest.StashKey[Lab]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab")
    group.addoption("--lab-keep", action="store_true", help="leave the lab's hosts running at the end")
    group.addoption("--lab-logs", default="build/lab-logs", help="where failures leave the hosts' journals")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of this test run alone: nothing in it yet; `lab.up(...)` and `lab.fresh(...)` make hosts."""
    places = Places.of_machine()
    clean_abandoned(places)
    name, held = _claim(places)
    with held:
        made = Lab.open(name)
        made.clean()
        request.config.stash[OPEN] = made
        yield made
        del request.config.stash[OPEN]
        if not request.config.getoption("--lab-keep"):
            made.clean()


@pytest.fixture(scope="session")
def hosts(lab: Lab) -> list[Host]:
    """Three hosts with Docker Engine and the test images, booted once; what a test does to them stays done."""
    made = lab.up(HOSTS, "docker")
    for host in made:
        host.load(archive(lab.places))
    return made


@pytest.fixture(scope="session")
def registry(lab: Lab) -> Registry:
    """The lab's registry, holding `covey/busybox:1`, `covey/web:1` and `covey/web:2`."""
    return lab.registry()


@pytest.fixture(autouse=True)
def _whole_links(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits another's cut links or a host that stands still."""
    yield
    made = request.config.stash.get(OPEN, None)
    if made is not None and made.hosts:
        made.mend()
        for host in made.hosts:
            if host.running:
                host.resume()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = item.config.stash.get(OPEN, None)
    if made is not None and report.failed and "lab" in getattr(item, "fixturenames", ()):
        logs = Path(item.config.getoption("--lab-logs"))
        target = item.config.rootpath / logs / re.sub(r"[^\w.-]+", "_", item.nodeid)
        collect(made, target)
        report.sections.append(("lab", f"journals and consoles of the hosts: {target}"))
    return report


def clean_abandoned(places: Places) -> None:
    """Take down the labs of test runs that ended without doing so."""
    for name in all_labs(places):
        run = re.fullmatch(r"(test\d+)[a-z]*", name)  # a test's second lab carries the first one's name
        held = _hold(places, run[1]) if run else None
        if held is not None:
            with held:
                Lab.open(name).clean()


def _claim(places: Places) -> tuple[str, IO[str]]:
    for number in itertools.count(1):
        held = _hold(places, f"test{number}")
        if held is not None:
            return f"test{number}", held
    raise AssertionError("numbers do not end")


def _hold(places: Places, name: str) -> IO[str] | None:
    """The lab's session lock, for as long as the returned file is open; None while another process has it."""
    places.runtime.mkdir(parents=True, exist_ok=True)
    file = (places.runtime / f"{name}.session").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
