# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls to the agent's control socket: JSON over HTTP over AF_UNIX.  Never in here: what an answer means."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket as sockets
from urllib.parse import urlencode


class ApiError(Exception):
    """The call did not succeed; `status` is 0 when no answer came."""

    def __init__(self, msg, status=0):
        super().__init__(msg)
        self.msg = msg
        self.status = status


class AgentMissing(ApiError):
    """No agent listens on that socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """The agent behind one socket."""

    def __init__(self, socket, timeout):
        self.socket = socket
        self.timeout = timeout

    def get(self, path, query=None, patience=0):
        """The decoded answer; `patience` is how many seconds the agent was asked to wait by itself."""
        return self._call("GET", path, query, None, patience)

    def post(self, path, body=None, query=None):
        return self._call("POST", path, query, body, 0)

    def _call(self, method, path, query, body, patience):
        target = path + ("?" + urlencode(query) if query else "")
        sent = None if body is None else json.dumps(body)
        headers = {} if sent is None else {"Content-Type": "application/json"}
        connection = _UnixConnection(self.socket, self.timeout + patience)
        try:
            connection.request(method, target, sent, headers)
            answer = connection.getresponse()
            return self._read(method, path, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as broken:
            raise self._no_answer(method, path, broken) from broken
        finally:
            connection.close()

    def _read(self, method, path, status, raw):
        try:
            value = json.loads(raw) if raw.strip() else None
        except ValueError:
            value = raw.decode("utf-8", "replace").strip()
        if status < 400:
            return value
        if isinstance(value, dict):
            value = value.get("message")
        raise ApiError("%s (%s %s: HTTP %s)" % (value or "no reason given", method, path, status), status)

    def _no_answer(self, method, path, broken):
        host = sockets.gethostname()
        code = getattr(broken, "errno", None)
        if code in (errno.ENOENT, errno.ECONNREFUSED):
            why = "nothing listens there" if os.path.exists(self.socket) else "it does not exist"
            text = "no Covey agent on %s: tried the socket %s, but %s. See: systemctl status covey" % (host, self.socket, why)
            return AgentMissing(text)
        if code == errno.EACCES:
            return ApiError("%s on %s is not open to this user: use become, or join the group covey" % (self.socket, host))
        text = "the Covey agent on %s did not answer %s %s: %s. See: journalctl -u covey" % (host, method, path, broken)
        return ApiError(text)
