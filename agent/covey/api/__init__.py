# SPDX-License-Identifier: GPL-3.0-or-later
"""The control API: Docker paths, /covey/v1, and the front of the socket. Never in it: what a cluster decides."""
