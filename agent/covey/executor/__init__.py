# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: the protocol, an executor without an engine for tests, and the door to Docker Engine.  Never policy."""
