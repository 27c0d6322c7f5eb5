# SPDX-License-Identifier: GPL-3.0-or-later
"""The front of the control socket: our handlers and the local engine behind one unix socket, as one Docker Engine API.

Works on plain sockets and sans-I/O parsers.  asyncio's transports would not do: they drop unread input when a write
fails, and so lose the end of a container's output when its input breaks first.  Never in it: what any path means.
"""
