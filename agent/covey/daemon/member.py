# SPDX-License-Identifier: GPL-3.0-or-later
"""The running parts of a node that is in a cluster: the worker, and on a manager the store, the server and control."""
