# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An agent behind a real socket that keeps to the contract of its paths, with a world that tests arrange and look at."""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import threading
from urllib.parse import parse_qsl, urlsplit

CLUSTER = "clusterclusterclusterclus"
NODE = "nodenodenodenodenodenoden"


class Refusal(Exception):
    """The agent says no."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


class FakeAgent:
    """`status`, `services`, `secrets`, `configs`, `nodes`, `tasks` and `convergence` are the world; `calls` is what was asked of it."""

    def __init__(self, path):
        self.path = path
        self.calls = []
        self.status = {"State": "inactive", "NodeID": "", "ClusterID": "", "Role": "", "Leader": None, "Managers": []}
        self.lock = ""
        self.services = {}
        self.secrets = {}
        self.configs = {}
        self.nodes = {}
        self.tasks = []
        self.convergence = []
        self.refusals = {}
        self._server = _Server(path, self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *ignored):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- the world

    def be_in_a_cluster(self, role="manager", cluster=CLUSTER):
        leader = {"NodeID": NODE, "Addr": "192.0.2.1:2377"} if role == "manager" else None
        raft = {"Term": 3, "Index": 42, "Epoch": 0} if role == "manager" else None
        self.status.update(State="active", NodeID=NODE, ClusterID=cluster, Role=role, Leader=leader, Raft=raft)

    def add_node(self, node_id, hostname, **spec):
        shown = dict({"Labels": {}, "Role": "worker", "Availability": "active"}, **spec)
        self.nodes[node_id] = {"ID": node_id, "Spec": shown, "Description": {"Hostname": hostname}, "Version": {"Index": 1}}

    def writes(self):
        """The calls that changed something."""
        return [call for call in self.calls if call[0] == "POST" and not (call[2] or {}).get("DryRun")]

    def sent(self, path):
        """The body of the last POST to that path."""
        return [body for method, where, body, query in self.calls if (method, where) == ("POST", path)][-1]

    # -- its paths

    def answer(self, method, path, query, body):
        self.calls.append((method, path, body, query))
        if path in self.refusals:
            raise Refusal(*self.refusals[path])
        for verb, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                return handler(self, body or {}, query, *found.groups())
        raise Refusal(404, "page not found")

    def _status(self, body, query):
        return dict(self.status, Version="0.1.0", AdvertiseAddr="", Error=self.status.get("Error", ""))

    def _init(self, body, query):
        if self.status["ClusterID"]:
            raise Refusal(503, "This node is already part of a swarm.")
        self.be_in_a_cluster()
        return NODE

    def _join(self, body, query):
        if not body["JoinToken"].startswith("SWMTKN-1-good"):
            raise Refusal(400, "this token is not of this cluster")
        self.be_in_a_cluster("worker")

    def _leave(self, body, query):
        if self.status["Role"] == "manager" and query.get("force") != "true":
            raise Refusal(503, "You are attempting to leave the swarm on a node that is participating as a manager.")
        self.status.update(State="inactive", NodeID="", ClusterID="", Role="", Leader=None)

    def _swarm(self, body, query):
        return {"ID": CLUSTER, "Spec": {"Name": "default"}, "JoinTokens": {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"}}

    def be_locked(self, key):
        self.be_in_a_cluster()
        self.lock = key
        self.status.update(State="locked", Leader=None)

    def _unlock(self, body, query):
        if self.status["State"] != "locked":
            raise Refusal(409, "swarm is not locked")
        if body["UnlockKey"] != self.lock:
            raise Refusal(401, "swarm could not be unlocked: invalid key provided")
        self.be_in_a_cluster()

    def _declare_lock(self, body, query):
        wanted = (body.get("UnlockKey") or self.lock or "SWMKEY-1-made") if body["AutoLock"] else ""
        changed = wanted != self.lock
        if not body["DryRun"]:
            self.lock = wanted
        return {"Changed": changed, "AutoLock": body["AutoLock"], "UnlockKeyVersion": 1}

    def _request(self, body, query):
        return {"CSR": "-----BEGIN CERTIFICATE REQUEST-----\nA\n-----END CERTIFICATE REQUEST-----\n"}

    def _admit(self, body, query):
        return {
            "NodeID": NODE,
            "ClusterID": CLUSTER,
            "Role": body["Role"],
            "Certificate": "PEM",
            "RootCA": "PEM",
            "Managers": [{"NodeID": NODE, "Addr": "192.0.2.1:2377"}],
        }

    def _complete(self, body, query):
        self.be_in_a_cluster(body["Admission"]["Role"], body["Admission"]["ClusterID"])
        return {"NodeID": NODE}

    def _declare_service(self, body, query):
        name = body["Spec"]["Name"]
        before = self.services.get(name)
        after = body["Spec"] if body["State"] == "present" else None
        if body["ForceUpdate"]:
            after = dict(after, Forced=True)
        if not body["DryRun"]:
            self.services[name] = after
        return _declared(before, after, "id-of-" + name if before or not body["DryRun"] else "")

    def _declare_dependency(self, body, query, kind):
        """Values are numbered; a secret's answer never holds one."""
        table, spec = getattr(self, kind), body["Spec"]
        name = spec["Name"]
        values = table.get(name, [])
        before = _shown_dependency(kind, values)
        after = list(values)
        if body["State"] == "absent":
            after = []
        elif not values or (values[-1]["Data"], values[-1].get("Templating")) != (spec["Data"], spec.get("Templating")):
            after.append(spec)
        else:
            after[-1] = spec
        if not body["DryRun"]:
            table[name] = after
        kept = after if not body["DryRun"] else values
        return _declared(before, _shown_dependency(kind, after), "%s-%d" % (name, len(kept)) if kept else "")

    def _dependencies(self, body, query, kind):
        return [
            {"ID": "%s-%d" % (name, len(values)), "Spec": {"Name": name}}
            for name, values in getattr(self, kind).items()
            if values
        ]

    def _values(self, body, query, kind, reference):
        values = getattr(self, kind)[reference.rpartition("-")[0]]
        return [{"Number": number + 1, "Current": number + 1 == len(values)} for number in reversed(range(len(values)))]

    def _convergence(self, body, query, service):
        return self.convergence.pop(0) if len(self.convergence) > 1 else self.convergence[0]

    def _node_called(self, name):
        for node in self.nodes.values():
            if name in (node["ID"], node["Description"]["Hostname"]):
                return node
        raise Refusal(404, "node %s not found" % name)

    def _declare_node(self, body, query, name):
        if body.get("State") == "absent":
            node = self._node_called(name)
            if not body["DryRun"]:
                del self.nodes[node["ID"]]
            return _declared(node["Spec"], None, node["ID"])
        node = self._node_called(name)
        labels = {} if body.get("LabelsState") == "replace" else dict(node["Spec"]["Labels"])
        labels.update(body.get("Labels") or {})
        after = {
            "Labels": {key: value for key, value in labels.items() if key not in (body.get("LabelsToRemove") or [])},
            "Role": body.get("Role", node["Spec"]["Role"]),
            "Availability": body.get("Availability", node["Spec"]["Availability"]),
        }
        before = node["Spec"]
        if not body["DryRun"]:
            node["Spec"] = after
        return _declared(before, after, node["ID"])

    def _node(self, body, query, name):
        return self._node_called(name)


ROUTES = [
    ("GET", "/covey/v1/status", FakeAgent._status),
    ("POST", "/swarm/init", FakeAgent._init),
    ("POST", "/swarm/join", FakeAgent._join),
    ("POST", "/swarm/leave", FakeAgent._leave),
    ("GET", "/swarm", FakeAgent._swarm),
    ("POST", "/swarm/unlock", FakeAgent._unlock),
    ("POST", "/covey/v1/cluster/lock", FakeAgent._declare_lock),
    ("POST", "/covey/v1/join/request", FakeAgent._request),
    ("POST", "/covey/v1/join/admit", FakeAgent._admit),
    ("POST", "/covey/v1/join/complete", FakeAgent._complete),
    ("POST", "/covey/v1/services/declare", FakeAgent._declare_service),
    ("POST", "/covey/v1/(secrets|configs)/declare", FakeAgent._declare_dependency),
    ("GET", "/covey/v1/(secrets|configs)/([^/]+)/values", FakeAgent._values),
    ("GET", "/(secrets|configs)", FakeAgent._dependencies),
    ("GET", "/covey/v1/services/([^/]+)/convergence", FakeAgent._convergence),
    ("POST", "/covey/v1/nodes/([^/]+)/declare", FakeAgent._declare_node),
    ("GET", "/nodes/([^/]+)", FakeAgent._node),
    ("GET", "/nodes", lambda self, body, query: list(self.nodes.values())),
    ("GET", "/tasks", lambda self, body, query: self.tasks),
    (
        "GET",
        "/services",
        lambda self, body, query: [{"ID": "id-of-" + name, "Spec": spec} for name, spec in self.services.items() if spec],
    ),
]


def _shown_dependency(kind, values):
    if not values:
        return None
    hidden = ["Data"] if kind == "secrets" else []
    return dict({key: value for key, value in values[-1].items() if key not in hidden}, Value=len(values))


def _declared(before, after, object_id):
    if before == after:
        action = "none"
    elif before is None:
        action = "create"
    else:
        action = "remove" if after is None else "update"
    keys = sorted(set(before or {}) | set(after or {}))
    changes = [key for key in keys if (before or {}).get(key) != (after or {}).get(key)]
    return {
        "Changed": action != "none",
        "Action": action,
        "ID": object_id,
        "Version": 7,
        "Before": before,
        "After": after,
        "Diff": [{"Path": key, "Before": (before or {}).get(key), "After": (after or {}).get(key)} for key in changes],
        "Warnings": [],
    }


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path, agent):
        self.agent = agent
        super().__init__(path, _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "socket"

    def log_message(self, format, *args):
        """Nothing is printed: the output belongs to the module."""

    def do_GET(self):
        self._respond(None)

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._respond(json.loads(raw) if raw else None)

    def _respond(self, body):
        where = urlsplit(self.path)
        try:
            status, value = 200, self.server.agent.answer(self.command, where.path, dict(parse_qsl(where.query)), body)
        except Refusal as refusal:
            status, value = refusal.status, {"message": refusal.message}
        raw = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
