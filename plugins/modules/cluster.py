#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a host into a cluster and out of it, one step a call; none of it needs a secret to travel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster
short_description: Form, join and leave a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Brings the host it runs on into a cluster, or out of it.
  - Joining takes three steps, and no secret leaves any host. The joiner makes a key and asks with a request (O(state=requested)),
    a manager signs that request (O(state=admitted)), the joiner puts the certificate to use (O(state=joined)).
  - The role P(covey.swarm.cluster#role) does all that for a whole inventory.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.changes
options:
  state:
    description:
      - V(present) forms a new cluster of this one host, unless it is in one already.
      - V(requested) makes a key, if this host is in no cluster yet, and returns the request to be signed.
      - V(admitted) signs a request. Runs on a manager, on behalf of the joiner.
      - V(joined) completes what V(admitted) returned, or joins with O(join_token).
      - V(unlocked) gives a locked manager the key it waits for; a host that is not locked is left as it is.
      - V(absent) leaves the cluster, whatever state the host is in, and stops its containers.
    type: str
    choices: [present, requested, admitted, joined, unlocked, absent]
    default: present
  autolock:
    description:
      - With O(state=present), whether the managers of the cluster start locked. Left out, that stays as it is.
      - Needs a host that is a manager.
    type: bool
  unlock_key:
    description:
      - With O(autolock=true), the key that opens locked managers, for example from Ansible Vault. Another one than the
        cluster has takes its place. Left out, the managers make one, which C(docker swarm unlock-key) shows.
      - With O(state=unlocked), the key that the manager was locked with.
    type: str
  cluster_id:
    description: The cluster this host has to be in. If it is in another one, the module fails and changes nothing.
    type: str
  advertise_addr:
    description: IP address by which the other nodes reach this one. Left out, that of the default route.
    type: str
  listen_addr:
    description: Where the cluster server listens, for example V(0.0.0.0:2377). Left out, as the agent is configured.
    type: str
  csr:
    description: The request, as O(state=requested) returned it. Needed with O(state=admitted); without one, as in check mode, nothing is done.
    type: str
  role:
    description: What the joiner becomes, with O(state=admitted).
    type: str
    choices: [manager, worker]
    default: worker
  hostname:
    description: Host name of the joiner, for messages, with O(state=admitted).
    type: str
  labels:
    description: Labels of the new node, with O(state=admitted).
    type: dict
  availability:
    description: Whether the new node gets work, with O(state=admitted).
    type: str
    choices: [active, pause, drain]
    default: active
  admission:
    description: What O(state=admitted) returned, with O(state=joined). None of it is secret.
    type: dict
  join_token:
    description: With O(state=joined) and O(remote_addrs), join by a token instead; for hosts that configure themselves.
    type: str
  remote_addrs:
    description: Addresses of managers, for example V(192.0.2.1:2377), with O(join_token).
    type: list
    elements: str
  force:
    description: With O(state=absent), also leave as a manager. The last manager takes the cluster with it.
    type: bool
    default: false
  wait_timeout:
    description: How many seconds to wait until the host is in the cluster, or out of it.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: A cluster of one
  covey.swarm.cluster:
    advertise_addr: 192.0.2.1

- name: Ask to be let in
  covey.swarm.cluster:
    state: requested
  register: request

- name: Let it in
  covey.swarm.cluster:
    state: admitted
    csr: "{{ request.csr }}"
    role: worker
    hostname: "{{ inventory_hostname }}"
  delegate_to: alpha
  register: admitted

- name: Come in
  covey.swarm.cluster:
    state: joined
    admission: "{{ admitted.admission }}"

- name: Managers start locked, with a key from Ansible Vault
  covey.swarm.cluster:
    autolock: true
    unlock_key: "{{ vault_unlock_key }}"

- name: Unlock a manager that was restarted
  covey.swarm.cluster:
    state: unlocked
    unlock_key: "{{ vault_unlock_key }}"

- name: Leave
  covey.swarm.cluster:
    state: absent
"""

RETURN = r"""
cluster_id:
  description: Id of the cluster that the host is in; empty for none.
  returned: success, not with O(state=admitted)
  type: str
node_id:
  description: Id of the host's node; empty for none.
  returned: success, not with O(state=admitted)
  type: str
csr:
  description: The request to be signed, in PEM. It is not secret.
  returned: O(state=requested), where the host is in no cluster, not in check mode
  type: str
admission:
  description: Certificate, root certificate and managers, to be given to O(state=joined). It is not secret.
  returned: O(state=admitted), not in check mode
  type: dict
  contains:
    NodeID:
      description: Id of the new node.
      type: str
    ClusterID:
      description: Id of the cluster.
      type: str
    Role:
      description: V(manager) or V(worker).
      type: str
    Certificate:
      description: Certificate of the new node, in PEM.
      type: str
    RootCA:
      description: Certificate of the cluster's authority, in PEM.
      type: str
    Managers:
      description: The managers and their addresses.
      type: list
      elements: dict
"""

from ansible_collections.covey.swarm.plugins.module_utils._api import ApiError
from ansible_collections.covey.swarm.plugins.module_utils._cluster import facts, get_status
from ansible_collections.covey.swarm.plugins.module_utils._module import GaveUp, run, until

OPTIONS = {
    "state": {
        "type": "str",
        "choices": ["present", "requested", "admitted", "joined", "unlocked", "absent"],
        "default": "present",
    },
    "autolock": {"type": "bool"},
    "unlock_key": {"type": "str", "no_log": True},
    "cluster_id": {"type": "str"},
    "advertise_addr": {"type": "str"},
    "listen_addr": {"type": "str"},
    "csr": {"type": "str"},
    "role": {"type": "str", "choices": ["manager", "worker"], "default": "worker"},
    "hostname": {"type": "str"},
    "labels": {"type": "dict"},
    "availability": {"type": "str", "choices": ["active", "pause", "drain"], "default": "active"},
    "admission": {"type": "dict"},
    "join_token": {"type": "str", "no_log": True},
    "remote_addrs": {"type": "list", "elements": "str"},
    "force": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 60},
}


def act(module, api):
    if module.params["state"] == "admitted":
        return _admit(module, api)
    now = facts(get_status(api))
    if module.params["state"] == "absent":
        return _leave(module, api, now)
    _refuse_another(module, now)
    if module.params["state"] == "unlocked":
        return _unlock(module, api, now)
    if now["cluster_id"]:
        return _result(_lock(module, api, now), now)
    if module.check_mode:
        return _result(True, now)
    if module.params["state"] == "requested":
        return dict(_result(True, now), csr=api.post("/covey/v1/join/request", _addresses(module, "AdvertiseAddr"))["CSR"])
    _enter(module, api)
    now = _settled(module, api)
    _lock(module, api, now)
    return _result(True, now)


def _refuse_another(module, now):
    """Fail where the host is in a cluster that is not the wanted one."""
    wanted = module.params["cluster_id"] or (module.params["admission"] or {}).get("ClusterID")
    if wanted and now["cluster_id"] and now["cluster_id"] != wanted:
        text = "this host is in cluster %s, not in %s. Nothing was changed; to move it, first let it leave with state=absent"
        module.fail_json(msg=text % (now["cluster_id"], wanted), **_result(False, now))


def _admit(module, api):
    params = module.params
    if not params["csr"] or module.check_mode:
        return {"changed": True}
    wish = {
        "CSR": params["csr"],
        "Role": params["role"],
        "Hostname": params["hostname"] or "",
        "Availability": params["availability"],
    }
    if params["labels"]:
        wish["Labels"] = {key: str(value) for key, value in params["labels"].items()}
    return {"changed": True, "admission": api.post("/covey/v1/join/admit", wish)}


def _enter(module, api):
    params = module.params
    if params["state"] == "present":
        api.post("/swarm/init", _addresses(module, "AdvertiseAddr", "ListenAddr"))
        return
    if params["admission"]:
        wish = dict(_addresses(module, "AdvertiseAddr", "ListenAddr"), Admission=params["admission"])
        api.post("/covey/v1/join/complete", wish)
        return
    if not params["join_token"] or not params["remote_addrs"]:
        module.fail_json(msg="state=joined needs admission, or else join_token and remote_addrs")
    wish = {"RemoteAddrs": params["remote_addrs"], "JoinToken": params["join_token"]}
    api.post("/swarm/join", dict(wish, **_addresses(module, "AdvertiseAddr", "ListenAddr")))


def _lock(module, api, now):
    """Lock the managers of the cluster, or do not, where that is declared; whether it was otherwise."""
    params = module.params
    if params["state"] != "present" or params["autolock"] is None:
        return False
    if now["state"] == "locked":
        text = "this manager is locked, so it cannot change how managers are locked: unlock it first with state=unlocked"
        module.fail_json(msg=text, **_result(False, now))
    wish = {"AutoLock": params["autolock"], "DryRun": module.check_mode}
    if params["autolock"] and params["unlock_key"]:
        wish["UnlockKey"] = params["unlock_key"]
    return api.post("/covey/v1/cluster/lock", wish)["Changed"]


def _unlock(module, api, now):
    if now["state"] != "locked":
        return _result(False, now)
    if not module.params["unlock_key"]:
        text = "this manager is locked: unlock_key has to be the key it was locked with"
        module.fail_json(msg=text, **_result(False, now))
    if not module.check_mode:
        api.post("/swarm/unlock", {"UnlockKey": module.params["unlock_key"]})
    return _result(True, now)


def _addresses(module, *names):
    given = {"AdvertiseAddr": module.params["advertise_addr"], "ListenAddr": module.params["listen_addr"]}
    return {name: given[name] for name in names if given[name]}


def _settled(module, api):
    """The facts once the host is in the cluster and knows who leads it."""
    last = {}

    def inside():
        last.update(facts(get_status(api)))
        if last["state"] == "error":
            module.fail_json(msg="the node could not come in: %s" % last["error"], **_result(True, last))
        return last["state"] == "active" and (last["leader"] or last["role"] == "worker")

    return _wait(module, inside, last, "in the cluster")


def _leave(module, api, now):
    if not now["cluster_id"] and now["state"] == "inactive":
        return _result(False, now)
    if module.check_mode:
        return _result(True, now)
    api.post("/swarm/leave", query={"force": "true"} if module.params["force"] else None)
    last = {}

    def outside():
        try:
            last.update(facts(get_status(api)))
        except ApiError as error:  # the agent may begin anew
            last.update(facts({}), error=error.msg)
        return last["state"] == "inactive"

    return _result(True, _wait(module, outside, last, "out of the cluster"))


def _wait(module, done, last, where):
    try:
        until(done, module.params["wait_timeout"])
    except GaveUp:
        text = "this host is not %s after %d s: it is %s%s. See: journalctl -u covey"
        more = ", %s" % last["error"] if last["error"] else ""
        seconds = module.params["wait_timeout"]
        module.fail_json(msg=text % (where, seconds, last["state"] or "silent", more), **_result(True, last))
    return last


def _result(changed, now):
    return {"changed": changed, "cluster_id": now["cluster_id"], "node_id": now["node_id"]}


def main():
    run(
        act,
        OPTIONS,
        mutually_exclusive=[("admission", "join_token")],
        required_together=[("join_token", "remote_addrs")],
    )


if __name__ == "__main__":
    main()
