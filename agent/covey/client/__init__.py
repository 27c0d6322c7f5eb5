# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls out over mutual TLS: to managers (session, joining, renewing, calls passed on), to authorities outside.

TLS contexts are given, as callables, so that certificates can change under a running client.  Never in it: who may be
trusted, what an answer means.
"""
