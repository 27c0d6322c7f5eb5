# -*- coding: utf-8 -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for secrets and for configs do.  Whether a value is another one the managers decide, never this."""

from __future__ import annotations

import base64
import binascii

from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.covey.swarm.plugins.module_utils._module import declared

OPTIONS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "data_is_b64": {"type": "bool", "default": False},
    "data_src": {"type": "path"},
    "labels": {"type": "dict"},
    "template_driver": {"type": "str", "choices": ["golang"]},
}
RULES = {
    "mutually_exclusive": [("data", "data_src")],
    "required_if": [("state", "present", ["data", "data_src"], True)],
}
INFO_OPTIONS = {"name": {"type": "str"}}


def declare(module, api, kind):
    """Declare the secret or config that the module's options describe."""
    name, present = module.params["name"], module.params["state"] == "present"
    spec = _spec(module) if present else {"Name": name}
    body = {"Spec": spec, "State": module.params["state"], "DryRun": module.check_mode}
    answer = api.post("/covey/v1/%ss/declare" % kind, body)
    result = declared(module, answer, "%s %s" % (kind, name))
    if present:
        result[kind + "_id"] = answer["ID"]
        result[kind + "_name"] = name
    return result


def _spec(module):
    params = module.params
    spec = {"Name": params["name"], "Data": to_text(base64.b64encode(_data(module)))}
    if params["labels"]:
        spec["Labels"] = dict((str(key), str(value)) for key, value in params["labels"].items())
    if params["template_driver"]:
        spec["Templating"] = {"Name": params["template_driver"]}
    return spec


def _data(module):
    params = module.params
    if params["data_src"] is not None:
        try:
            with open(params["data_src"], "rb") as source:
                return source.read()
        except OSError as error:
            module.fail_json(msg="data_src: %s cannot be read: %s" % (params["data_src"], error.strerror))
    data = to_bytes(params["data"])
    if not params["data_is_b64"]:
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        module.fail_json(msg="data: data_is_b64 is set, but this is no base64")


def info(module, api, kind):
    """The secrets or configs that are there, or the one of that name with the values kept of it."""
    name = module.params["name"]
    found = api.get("/%ss" % kind) or []
    if not name:
        return {"changed": False, kind + "s": found}
    found = [thing for thing in found if name in (thing["ID"], thing["Spec"]["Name"])]
    result = {"changed": False, kind + "s": found, "exists": bool(found)}
    if found:
        result[kind] = found[0]
        result["kept"] = api.get("/covey/v1/%ss/%s/values" % (kind, found[0]["ID"]))
    return result
