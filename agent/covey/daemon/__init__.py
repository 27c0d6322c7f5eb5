# SPDX-License-Identifier: GPL-3.0-or-later
"""The composition root: configuration, the only clock, signals, systemd's readiness, and who talks to whom."""
