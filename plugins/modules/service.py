#!/usr/bin/python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare what a service is; the comparison with what is there happens on the manager, never here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Declare a service of a Covey cluster
version_added: 0.1.0
author:
  - The Covey authors (@covey)
description:
  - Declares what a service is and waits until it is so.
  - What is declared is the whole service. An option that is left out means its default, not "keep what is there".
  - Which difference there is to what runs, the manager decides, the same for check mode and for real.
extends_documentation_fragment:
  - covey.swarm.connection
  - covey.swarm.attributes
  - covey.swarm.attributes.changes
options:
  name:
    description: Name of the service.
    type: str
    required: true
  state:
    description: V(absent) removes the service and its containers.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: Image of the containers. Required with O(state=present).
    type: str
  command:
    description:
      - Replaces the image's entry point.
      - A string is split into words as a shell would.
    type: raw
  args:
    description: Arguments of the command; replaces the image's own.
    type: list
    elements: str
  env:
    description: Environment, as a map or as a list of C(KEY=value).
    type: raw
  labels:
    description: Labels of the service.
    type: dict
  container_labels:
    description: Labels of its containers.
    type: dict
  user:
    description: User, and optionally group, that runs the command, for example V(1000:1000).
    type: str
  hostname:
    description: Host name inside the containers.
    type: str
  mounts:
    description: What is mounted into the containers.
    type: list
    elements: dict
    suboptions:
      type:
        description: V(bind) needs the source on each host that may run the service.
        type: str
        choices: [bind, volume, tmpfs]
        default: bind
      source:
        description: Path on the host, or name of the volume. A volume without a name is removed with its container.
        type: str
      target:
        description: Path inside the container.
        type: str
        required: true
      readonly:
        description: Whether the container may only read it.
        type: bool
      propagation:
        description: Of a bind mount, which mounts made later show through.
        type: str
        choices: [shared, slave, private, rshared, rslave, rprivate]
      no_copy:
        description: Of a new volume, do not copy into it what the image has at that path.
        type: bool
      labels:
        description: Labels of a new volume.
        type: dict
      driver_config:
        description: Driver of a new volume.
        type: dict
        suboptions:
          name:
            description: Name of the driver.
            type: str
          options:
            description: Its options.
            type: dict
      tmpfs_size:
        description: Largest size of a tmpfs, for example V(64M).
        type: str
      tmpfs_mode:
        description: Mode of a tmpfs, as a number. Write V(0o1777) in YAML 1.2, V(01777) in YAML 1.1.
        type: int
  secrets:
    description: Secrets that the containers find as files, read-only and in memory. Another value of one rolls the service.
    type: list
    elements: dict
    suboptions:
      secret_name:
        description: Name of the secret.
        type: str
        required: true
      secret_id:
        description: Its id, which must be one of that name. Left out, the newest value is meant.
        type: str
      filename:
        description: Where it is in the container; V(/run/secrets/) and its name, where this is left out.
        type: str
      uid:
        description: User that owns it, as a number; root where it is left out.
        type: str
      gid:
        description: Group that owns it, as a number; root's where it is left out.
        type: str
      mode:
        description: Mode of the file, quoted and octal as in V("0400"), or a number; V("0444") where it is left out.
        type: raw
  configs:
    description: Configs that the containers find as files, read-only and in memory. Another value of one rolls the service.
    type: list
    elements: dict
    suboptions:
      config_name:
        description: Name of the config.
        type: str
        required: true
      config_id:
        description: Its id, which must be one of that name. Left out, the newest value is meant.
        type: str
      filename:
        description: Where it is in the container; V(/) and its name, where this is left out.
        type: str
      uid:
        description: User that owns it, as a number; root where it is left out.
        type: str
      gid:
        description: Group that owns it, as a number; root's where it is left out.
        type: str
      mode:
        description: Mode of the file, quoted and octal as in V("0400"), or a number; V("0444") where it is left out.
        type: raw
  limits:
    description: What one container may use at most.
    type: dict
    suboptions:
      cpus:
        description: CPUs, V(0.5) for half of one.
        type: float
      memory:
        description: Memory, for example V(512M).
        type: str
  reservations:
    description: What has to be free on a node before it gets one of the containers.
    type: dict
    suboptions:
      cpus:
        description: CPUs, V(0.5) for half of one.
        type: float
      memory:
        description: Memory, for example V(512M).
        type: str
  publish:
    description: Ports that the containers' hosts open for them.
    type: list
    elements: dict
    suboptions:
      mode:
        description: V(host) opens the port on the hosts that run one of the containers.
        type: str
        choices: [host]
        required: true
      protocol:
        description: Protocol of the port.
        type: str
        choices: [tcp, udp]
        default: tcp
      published_port:
        description: Port of the host. Left out, the engine chooses a free one.
        type: int
      target_port:
        description: Port inside the container.
        type: int
        required: true
  stop_signal:
    description: Signal that asks a container to end.
    type: str
  stop_grace_period:
    description: How long a container may take to end before it is killed, for example V(30s).
    type: str
  healthcheck:
    description: How to tell that a container is well. Replaces the image's own.
    type: dict
    suboptions:
      test:
        description:
          - A string is run by the container's shell.
          - A list is C([CMD, ...]), C([CMD-SHELL, text]) or C([NONE]).
        type: raw
      interval:
        description: Time between two checks.
        type: str
      timeout:
        description: Time that one check may take.
        type: str
      retries:
        description: How many failures in a row make it unhealthy.
        type: int
      start_period:
        description: Time after the start in which failures do not count.
        type: str
  restart_config:
    description: What to do when a container ends.
    type: dict
    suboptions:
      condition:
        description: After which ends it is replaced.
        type: str
        choices: [none, on-failure, any]
      delay:
        description: Pause before the replacement. Left out, the first comes at once and further ones after growing pauses.
        type: str
      max_attempts:
        description: How often at most; V(0) is without limit.
        type: int
      window:
        description: Only ends within this time count as attempts.
        type: str
  placement:
    description: Where the containers may run.
    type: dict
    suboptions:
      constraints:
        description: For example V(node.labels.disk==ssd) or V(node.role!=manager).
        type: list
        elements: str
  mode:
    description: V(replicated) runs O(replicas) containers, V(global) one on each node that fits.
    type: str
    choices: [replicated, global]
    default: replicated
  replicas:
    description: How many containers of a replicated service; 1 where it is left out.
    type: int
  update_config:
    description: How a change is rolled out.
    type: dict
    suboptions:
      parallelism:
        description: How many containers are replaced at once; V(0) is all of them.
        type: int
  force_update:
    description: Replace the containers even where nothing differs. Such a task always changes something.
    type: bool
    default: false
  wait:
    description:
      - Wait until the service runs as declared, also where nothing had to be changed.
      - If it does not, the module fails with the errors of the tasks that fail.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds to wait at most.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Three web servers, spread over the nodes
  covey.swarm.service:
    name: web
    image: nginx:1.27
    replicas: 3
    env:
      TZ: Europe/Berlin
    publish:
      - mode: host
        published_port: 8080
        target_port: 80
    limits:
      cpus: 0.5
      memory: 128M
  run_once: true

- name: A database with its password, which only it may read
  covey.swarm.service:
    name: db
    image: registry.example.org/db:9
    secrets:
      - secret_name: db_password
        uid: "999"
        mode: "0400"
    configs:
      - config_name: db.conf
        filename: /etc/db.conf
  run_once: true

- name: One log shipper on every worker
  covey.swarm.service:
    name: shipper
    image: registry.example.org/shipper:4
    mode: global
    placement:
      constraints:
        - node.role==worker
    mounts:
      - source: /var/log
        target: /logs
        readonly: true
  run_once: true

- name: No more of it
  covey.swarm.service:
    name: web
    state: absent
  run_once: true
"""

RETURN = r"""
action:
  description: What was, or in check mode would be, done.
  returned: success
  type: str
  sample: update
changes:
  description: Paths of the fields that differ, as the Docker Engine API names them.
  returned: success
  type: list
  elements: str
  sample: [TaskTemplate.ContainerSpec.Image]
service:
  description: The service as the cluster holds it, or in check mode would.
  returned: O(state=present)
  type: dict
  contains:
    ID:
      description: Id of the service; empty in check mode where it does not exist yet.
      type: str
    Version:
      description: Version of the service object.
      type: int
    Spec:
      description: What it is declared to be.
      type: dict
convergence:
  description: What was waited for.
  returned: O(state=present) and O(wait=true), not in check mode
  type: dict
  contains:
    Running:
      description: How many tasks run.
      type: int
    Desired:
      description: How many tasks shall run.
      type: int
failures:
  description: The tasks that do not run, and why.
  returned: when the service does not become as declared
  type: list
  elements: dict
  sample:
    - Slot: 1
      Hostname: host-b
      State: rejected
      Error: "No such image: nginx:1.72"
"""

import time

from ansible_collections.covey.swarm.plugins.module_utils._module import WAITING, GaveUp, declared, run, until
from ansible_collections.covey.swarm.plugins.module_utils._spec import BadOption, service_spec

LONGEST_POLL = 20
RESOURCES = {"cpus": {"type": "float"}, "memory": {"type": "str"}}
MOUNT = {
    "type": {"type": "str", "choices": ["bind", "volume", "tmpfs"], "default": "bind"},
    "source": {"type": "str"},
    "target": {"type": "str", "required": True},
    "readonly": {"type": "bool"},
    "propagation": {"type": "str", "choices": ["shared", "slave", "private", "rshared", "rslave", "rprivate"]},
    "no_copy": {"type": "bool"},
    "labels": {"type": "dict"},
    "driver_config": {"type": "dict", "options": {"name": {"type": "str"}, "options": {"type": "dict"}}},
    "tmpfs_size": {"type": "str"},
    "tmpfs_mode": {"type": "int"},
}
PORT = {
    "mode": {"type": "str", "choices": ["host"], "required": True},
    "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
    "published_port": {"type": "int"},
    "target_port": {"type": "int", "required": True},
}
HEALTH = {
    "test": {"type": "raw"},
    "interval": {"type": "str"},
    "timeout": {"type": "str"},
    "retries": {"type": "int"},
    "start_period": {"type": "str"},
}
RESTART = {
    "condition": {"type": "str", "choices": ["none", "on-failure", "any"]},
    "delay": {"type": "str"},
    "max_attempts": {"type": "int"},
    "window": {"type": "str"},
}
FILE = {"filename": {"type": "str"}, "uid": {"type": "str"}, "gid": {"type": "str"}, "mode": {"type": "raw"}}
SECRET = dict(FILE, secret_name={"type": "str", "required": True}, secret_id={"type": "str"})
CONFIG = dict(FILE, config_name={"type": "str", "required": True}, config_id={"type": "str"})
OPTIONS = dict(
    WAITING,
    name={"type": "str", "required": True},
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    image={"type": "str"},
    command={"type": "raw"},
    args={"type": "list", "elements": "str"},
    env={"type": "raw"},
    labels={"type": "dict"},
    container_labels={"type": "dict"},
    user={"type": "str"},
    hostname={"type": "str"},
    mounts={"type": "list", "elements": "dict", "options": MOUNT},
    # The names of secrets are no secrets.
    secrets={"type": "list", "elements": "dict", "options": SECRET, "no_log": False},
    configs={"type": "list", "elements": "dict", "options": CONFIG},
    limits={"type": "dict", "options": RESOURCES},
    reservations={"type": "dict", "options": RESOURCES},
    publish={"type": "list", "elements": "dict", "options": PORT},
    stop_signal={"type": "str"},
    stop_grace_period={"type": "str"},
    healthcheck={"type": "dict", "options": HEALTH},
    restart_config={"type": "dict", "options": RESTART},
    placement={"type": "dict", "options": {"constraints": {"type": "list", "elements": "str"}}},
    mode={"type": "str", "choices": ["replicated", "global"], "default": "replicated"},
    replicas={"type": "int"},
    update_config={"type": "dict", "options": {"parallelism": {"type": "int"}}},
    force_update={"type": "bool", "default": False},
)


def act(module, api):
    params = module.params
    present = params["state"] == "present"
    answer = api.post("/covey/v1/services/declare", _declaration(module, present))
    result = declared(module, answer, "service %s" % params["name"])
    if present:
        result["service"] = {"ID": answer.get("ID"), "Version": answer.get("Version"), "Spec": answer.get("After")}
    if module.check_mode or not params["wait"]:
        return result
    if present:
        result["convergence"] = _converged(module, api, answer, result)
    elif result["changed"]:
        _gone(module, api, answer["ID"], result)
    return result


def _declaration(module, present):
    params = module.params
    try:
        spec = service_spec(params) if present else {"Name": params["name"]}
    except BadOption as bad:
        module.fail_json(msg=str(bad))
    return {
        "Spec": spec,
        "State": params["state"],
        "DryRun": module.check_mode,
        "ForceUpdate": present and params["force_update"],
    }


def _converged(module, api, answer, result):
    """Wait until the tasks run as declared; fail with their own errors when the time is over or the update stopped."""
    end = time.monotonic() + module.params["wait_timeout"]
    path = "/covey/v1/services/%s/convergence" % answer["ID"]
    while True:
        pause = max(0, min(LONGEST_POLL, int(end - time.monotonic())))
        state = api.get(path, {"version": answer["Version"], "wait": pause}, patience=pause)
        if state["Converged"]:
            return state
        stopped = state.get("UpdateState") == "paused"
        if stopped or time.monotonic() >= end:
            failures = state.get("Failures") or []
            reason = "its update was paused" if stopped else "not as declared after %d s" % module.params["wait_timeout"]
            text = "service %s: %s" % (module.params["name"], reason)
            module.fail_json(msg=text + _explain(state, failures), failures=failures, convergence=state, **result)
        time.sleep(0 if pause else 0.2)


def _explain(state, failures):
    text = "; %s of %s tasks run" % (state.get("Running"), state.get("Desired"))
    return text + "".join("; %s" % _failure(failure) for failure in failures)


def _failure(failure):
    slot = "task %s" % failure["Slot"] if failure.get("Slot") else "the task"
    where = failure.get("Hostname") or failure.get("NodeID")
    place = "%s on %s" % (slot, where) if where else "%s on no node yet" % slot
    return "%s is %s: %s" % (place, failure.get("State"), failure.get("Error") or "no error given")


def _gone(module, api, service, result):
    """Wait until no task of the removed service is left."""

    def none_left():
        return not [task for task in api.get("/tasks") or [] if task.get("ServiceID") == service]

    try:
        until(none_left, module.params["wait_timeout"])
    except GaveUp:
        text = "service %s is removed, but after %d s some of its containers still have to go"
        module.fail_json(msg=text % (module.params["name"], module.params["wait_timeout"]), **result)


def main():
    run(act, OPTIONS, required_if=[("state", "present", ["image"])])


if __name__ == "__main__":
    main()
