# SPDX-License-Identifier: GPL-3.0-or-later
"""`clean` leaves nothing of a lab on this machine, in whatever state it finds it, and touches nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey_lab.host import Host
from covey_lab.lab import Lab
from covey_lab.run import run
from covey_lab.waiting import wait_until

pytestmark = pytest.mark.lab


def traces(lab: Lab, number: int) -> list[str]:
    """Everything on this machine that carries the lab's names."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{lab.name}/" in line]
    found += [str(path) for path in Path("/run/netns").glob(f"covey-{lab.name}-*")]
    found += [str(path) for path in Path("/sys/class/net").glob(f"cv{number}-*")]
    found += [line for line in run("nft", "list", "tables").stdout.splitlines() if line.endswith(f"covey_lab_{number}")]
    found += lab.platform.names(f"covey-{lab.name}-")
    marks = (f"covey-{lab.name}-", f"/covey-lab/{lab.name}/")
    found += [line for line in run("ps", "-eo", "args").stdout.splitlines() if any(mark in line for mark in marks)]
    found += [str(path) for path in (lab.directory, lab.places.runtime / lab.name) if path.exists()]
    return found


def number_of(lab: Lab) -> int:
    return lab.hosts[0].around.net.number


def here() -> dict[str, str]:
    """The environment in which a new Python finds the lab."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    """Another lab beside the test's own."""
    other = Lab(f"{lab.name}other", lab.places, lab.platform)
    other.clean()
    yield other
    other.clean()


def test_nothing_is_left_and_the_other_lab_stays(lab: Lab, hosts: list[Host], second: Lab) -> None:
    on, off, still = second.up(["on", "off", "still"], "virgin", small={"/small": "4M"})
    second.registry()
    second.cut("on", "off")
    off.plug()
    still.pause()
    number = number_of(second)
    assert on.running
    assert traces(second, number)
    second.clean()
    assert traces(second, number) == []
    assert all(host.ssh("true").ok for host in hosts)
    second.clean()


def test_a_tool_killed_while_booting_is_cleaned_up_after(second: Lab) -> None:
    command = [sys.executable, "-m", "covey_lab", "--lab", second.name, "up", "a", "b", "--flavour", "virgin"]
    tool = subprocess.Popen(command, env=here(), start_new_session=True)
    wait_until(lambda: any(host.running for host in second.hosts), 60, "the first host to be started", every=0.01)
    os.killpg(tool.pid, signal.SIGKILL)
    tool.wait()
    number = number_of(second)
    second.clean()
    assert traces(second, number) == []


def test_a_half_dismantled_lab_comes_up_again(second: Lab) -> None:
    (host,) = second.up(["a"], "virgin")
    host.ssh("echo kept > /root/file")
    for pid in second.platform.processes(host.machine_name):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not host.running, 10, "the host to be gone")
    run("ip", "link", "del", host.around.net.bridge)
    (again,) = second.up(["a"])
    assert again.ssh("cat /root/file").out == "kept\n"


def test_a_firewall_that_drops_lets_the_lab_through_and_is_left_as_it_was() -> None:
    program = r"""
from covey_lab import network
from covey_lab.places import Net
from covey_lab.run import run

def chain():
    return run("nft", "list", "chain", *network.FORWARD).stdout

run("nft", "-f", "-", stdin="table ip filter {\nchain FORWARD { type filter hook forward priority 0; policy drop; }\n}")
before = chain()
network.apply_rules(Net(7), [], nat=True)
network.apply_rules(Net(7), [], nat=True)
print(chain().count('"cv7-br" accept'))
network.remove(Net(7))
print(chain() == before)
"""
    assert run("unshare", "--net", sys.executable, "-c", program, env=here()).stdout.split() == ["2", "True"]
