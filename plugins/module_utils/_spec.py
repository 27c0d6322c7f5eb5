# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module options to a ServiceSpec as the Docker Engine API has it.  Pure; what is valid in it the agent decides."""

from __future__ import annotations

import re
import shlex

from ansible.module_utils.common.text.formatters import human_to_bytes

NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


class BadOption(Exception):
    """An option's value cannot be understood; the text names the option."""


def service_spec(params):
    """The whole desired service; an option that was not given is absent, which means its default."""
    limits, reservations = params["limits"], params["reservations"]
    return _known({
        "Name": params["name"],
        "Labels": _text_map(params["labels"]),
        "Mode": _mode(params),
        "UpdateConfig": _each(params["update_config"], Parallelism="parallelism"),
        "EndpointSpec": {"Ports": [_port(port) for port in params["publish"] or []]},
        "TaskTemplate": {
            "ContainerSpec": _container(params),
            "Resources": {
                "Limits": _resources(limits, "limits"),
                "Reservations": _resources(reservations, "reservations"),
            },
            "RestartPolicy": _restart(params["restart_config"]),
            "Placement": _each(params["placement"], Constraints="constraints"),
        },
    }) or {}  # fmt: skip


def nanoseconds(text, option):
    """`1m30s`, `1.5s`, `500ms`; a bare number is seconds."""
    if text is None:
        return None
    text = str(text).strip()
    if re.match(r"^\d+(\.\d+)?$", text):
        text += "s"
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadOption("%s: %r is not a duration; write for example 90s, 1m30s or 500ms" % (option, text))
    return sum(int(round(float(number) * NANOSECONDS[unit])) for number, unit in parts)


def memory(text, option):
    """`512M` and the like in bytes; a bare number is bytes."""
    if text is None:
        return None
    try:
        return human_to_bytes(text)
    except ValueError:
        raise BadOption("%s: %r is not a size; write for example 512M or 1G" % (option, text)) from None


def file_mode(value, option):
    """A number as it is; text is octal, as everywhere where modes are written as text."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    try:
        return int(str(value), 8)
    except ValueError:
        raise BadOption('%s: %r is not a mode; write for example "0400"' % (option, value)) from None


def words(value, option):
    """A command as a list: lists stay, a string is split as a shell would."""
    if value is None:
        return None
    if isinstance(value, list):
        return [str(part) for part in value]
    if not isinstance(value, str):
        raise BadOption("%s: must be a string or a list of strings" % option)
    try:
        return shlex.split(value)
    except ValueError as error:
        raise BadOption("%s: %s in %r" % (option, error, value)) from None


def environment(value):
    """`KEY=value` strings in the order of the names, from a map, or as the list says."""
    if value is None:
        return None
    if isinstance(value, dict):
        return ["%s=%s" % (key, _text(value[key])) for key in sorted(value)]
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise BadOption("env: must be a map, or a list of KEY=value")
    return [str(entry) for entry in value]


def _container(params):
    return {
        "Image": params["image"],
        "Command": words(params["command"], "command"),
        "Args": params["args"],
        "Env": environment(params["env"]),
        "Labels": _text_map(params["container_labels"]),
        "User": params["user"],
        "Hostname": params["hostname"],
        "Mounts": [_mount(mount, "mounts[%d]" % place) for place, mount in enumerate(params["mounts"] or [])],
        "StopSignal": params["stop_signal"],
        "StopGracePeriod": nanoseconds(params["stop_grace_period"], "stop_grace_period"),
        "Healthcheck": _health(params["healthcheck"]),
        "Secrets": [_reference(given, "Secret", place) for place, given in enumerate(params["secrets"] or [])],
        "Configs": [_reference(given, "Config", place) for place, given in enumerate(params["configs"] or [])],
    }


def _reference(given, kind, place):
    """A secret or config by its name, which stands for its newest value; an id must be of that name."""
    option = kind.lower()
    mode = file_mode(given["mode"], "%ss[%d].mode" % (option, place))
    return {
        kind + "Name": given[option + "_name"],
        kind + "ID": given[option + "_id"],
        "File": {"Name": given["filename"], "UID": given["uid"], "GID": given["gid"], "Mode": mode},
    }


def _mode(params):
    if params["mode"] == "global":
        return {"Global": Kept()}
    return {"Replicated": Kept(_known({"Replicas": params["replicas"]}) or {})}


def _mount(mount, option):
    size = memory(mount["tmpfs_size"], option + ".tmpfs_size")
    return {
        "Type": mount["type"],
        "Source": mount["source"],
        "Target": mount["target"],
        "ReadOnly": mount["readonly"],
        "BindOptions": {"Propagation": mount["propagation"]},
        "VolumeOptions": {
            "NoCopy": mount["no_copy"],
            "Labels": _text_map(mount["labels"]),
            "DriverConfig": _each(mount["driver_config"], Name="name", Options="options"),
        },
        "TmpfsOptions": {"SizeBytes": size, "Mode": mount["tmpfs_mode"]},
    }


def _port(port):
    return {
        "Protocol": port["protocol"],
        "TargetPort": port["target_port"],
        "PublishedPort": port["published_port"],
        "PublishMode": port["mode"],
    }


def _resources(given, option):
    if given is None:
        return None
    cpus = given["cpus"]
    return {
        "NanoCPUs": None if cpus is None else int(round(cpus * 10**9)),
        "MemoryBytes": memory(given["memory"], option + ".memory"),
    }


def _restart(given):
    if given is None:
        return None
    return {
        "Condition": given["condition"],
        "Delay": nanoseconds(given["delay"], "restart_config.delay"),
        "MaxAttempts": given["max_attempts"],
        "Window": nanoseconds(given["window"], "restart_config.window"),
    }


def _health(given):
    if given is None:
        return None
    test = given["test"]
    if isinstance(test, str):
        test = ["NONE"] if test == "NONE" else ["CMD-SHELL", test]
    return {
        "Test": words(test, "healthcheck.test"),
        "Interval": nanoseconds(given["interval"], "healthcheck.interval"),
        "Timeout": nanoseconds(given["timeout"], "healthcheck.timeout"),
        "StartPeriod": nanoseconds(given["start_period"], "healthcheck.start_period"),
        "Retries": given["retries"],
    }


class Kept(dict):
    """A map that says something even when it is empty."""


def _known(value):
    """`value` without what was not given: nulls, and maps and lists that hold nothing."""
    if isinstance(value, Kept):
        return dict(value)
    if isinstance(value, dict):
        inner = {key: _known(below) for key, below in value.items()}
        return {key: below for key, below in inner.items() if below is not None} or None
    if isinstance(value, list):
        return [_known(below) for below in value] or None
    return value


def _each(given, **names):
    return given and {wire: given[option] for wire, option in names.items()}


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text_map(value):
    return value and {str(key): _text(below) for key, below in value.items()}
