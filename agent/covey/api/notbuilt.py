# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the peer's swarm API that this release lacks: they say so in our name, never in the engine's."""

from __future__ import annotations

from covey.api.call import Call
from covey.api.http import Response
from covey.model.errors import Unsupported

NAMES = {
    "services": "logs of services are",
    "tasks": "logs of tasks are",
}


async def answer(call: Call) -> Response:
    what = NAMES[call.request.path.split("/")[1]]
    raise Unsupported(f"{what} not built yet in this release of Covey ({call.node.status().version})")
