# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader runs: the loop that plans, the dispatcher of the workers' sessions, the signer of certificates.

Transport-agnostic: never in it are sockets, HTTP, the container engine, the consensus library.
"""
