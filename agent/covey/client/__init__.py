# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls out to managers over mutual TLS: the worker's session, joining and renewing, calls passed between managers.

TLS contexts are given, as callables, so that certificates can change under a running client.  Never in it: who may be
trusted, what an answer means.
"""
