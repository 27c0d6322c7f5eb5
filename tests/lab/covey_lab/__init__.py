# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: whole hosts (systemd, sshd, own disk, own network) on one machine, by systemd-nspawn.

`lab.Lab` is the door for programs, `python -m covey_lab` for people, `covey_lab.plugin` for pytest. Standard library
only, so that it runs before anything is installed. Never in here: anything that knows what Covey is, beyond the unit
names whose journals are collected when a test fails.
"""
