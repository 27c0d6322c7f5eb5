# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told to systemd, and how its answers are read: only a restart of our own unit is a restart."""

import socket

import pytest

from covey.daemon.systemd import is_restart, is_restarting, notify, unit_of, watchdog_period


def test_a_notification_is_one_datagram(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        notify({"NOTIFY_SOCKET": str(tmp_path / "notify")}, WATCHDOG="1", STATUS="fine")
        assert systemd.recv(100) == b"WATCHDOG=1\nSTATUS=fine"
    notify({}, WATCHDOG="1")


@pytest.mark.parametrize(
    ("environment", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "8"}, None),  # meant for our parent
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_period_is_what_systemd_asked_of_this_process(environment, period):
    assert watchdog_period(environment, 7) == period


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/covey.service\n", "covey.service"),
        ("12:pids:/init.scope\n1:name=systemd:/system.slice/covey.service\n0::/\n", "covey.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("", ""),
    ],
)
def test_our_unit_is_in_our_cgroup(cgroups, unit):
    assert unit_of(cgroups) == unit


JOBS = """ 101 covey.service {} running
 102 other.service restart waiting
 103 multi-user.target start waiting
"""


@pytest.mark.parametrize(("job", "restart"), [("restart", True), ("stop", False), ("start", False)])
def test_a_restart_is_a_job_of_that_type_for_our_unit(job, restart):
    assert is_restart(JOBS.format(job), "covey.service") is restart


@pytest.mark.parametrize(("jobs", "unit"), [("No jobs running.\n", "covey.service"), ("", ""), ("1\n\n x\n", "")])
def test_no_job_no_restart(jobs, unit):
    assert not is_restart(jobs, unit)


async def test_without_systemd_there_is_nobody_to_ask():
    assert not await is_restarting({})
