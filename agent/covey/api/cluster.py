# SPDX-License-Identifier: GPL-3.0-or-later
"""``/covey/v1/cluster``: the cluster as a whole, taken out of a manager and put into one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from covey.api import decode
from covey.api.bodies import BackupRequest, FindRequest, RecoverRequest, RestoreHead, RestoreRequest
from covey.api.call import Call, ManagerCall
from covey.api.http import Headers, Response
from covey.model.errors import InvalidArgument, NotInCluster, Unavailable
from covey.model.units import rfc3339
from covey.state.view import View
from covey.store import backup as file
from covey.store.base import Store

#: Seconds for this manager to have what the leader had when it was asked.
CATCH_UP = 10.0


async def index(call: ManagerCall) -> Response:
    """How far the state is: whoever has seen this index has seen every write acknowledged before the call."""
    return Response.json({"Index": call.view.index})


async def backup(call: Call) -> Response:
    """This manager's state as a sealed file, at ``Index`` or later; no other host sees state or passphrase."""
    request = decode.body_as(BackupRequest, call.request.body)
    file.check_passphrase(request.passphrase)
    managing = call.node.managing()
    if managing is None:
        raise NotInCluster("only a manager has the cluster's state: ask for the backup on one (docker node ls)")
    view = await _view_at(managing.store, request.index)
    taken_at, release = rfc3339(call.clock.now()), call.node.status().version
    pieces = file.write(view, taken_at, release, request.passphrase, call.clock.secret)
    return Response(200, Headers([("Content-Type", "application/octet-stream")]), _piece_by_piece(pieces))


async def restore(call: Call) -> Response:
    """A line of JSON, then the backup as it is."""
    head, newline, content = call.request.body.partition(b"\n")
    if not newline:
        raise InvalidArgument("a JSON object on one line is expected, and after it the backup")
    wish = decode.body_as(RestoreHead, head)
    request = RestoreRequest(
        file=content,
        passphrase=wish.passphrase,
        advertise_addr=wish.advertise_addr,
        listen_addr=wish.listen_addr,
    )
    return Response.json({"NodeID": await call.node.restore(request)})


async def recover(call: Call) -> Response:
    """Go on without the managers that are lost."""
    request = decode.decode(RecoverRequest, decode.parse(call.request.body or b"{}", "RecoverRequest"))
    return Response.json({"NodeID": await call.node.recover(request)})


async def find(call: Call) -> Response:
    """Look for this node's managers at other addresses than those it knows."""
    request = decode.body_as(FindRequest, call.request.body)
    if not request.addrs:
        raise InvalidArgument("at least one manager's address (host:2377) is needed", "Addrs")
    await call.node.find(request)
    return Response.json({"State": call.node.status().state})


async def _view_at(store: Store, index: int) -> View:
    waiter = store.changed()
    try:
        async with asyncio.timeout(CATCH_UP):
            while store.view().index < index:
                await waiter.wait()
    except TimeoutError:
        raise Unavailable(
            f"this manager is at index {store.view().index} and has not caught up to {index} within {CATCH_UP:g} s: "
            "take the backup on the leader, or what this manager has with --local"
        ) from None
    return store.view()


async def _piece_by_piece(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """In another thread: sealing takes time, and the agent has others to serve."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
