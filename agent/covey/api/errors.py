# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where an error becomes a status and a body; every failure is ``{"message": ..., "code": ...}``."""

from __future__ import annotations

import logging

from covey.api.http import Response
from covey.model import errors

log = logging.getLogger(__name__)

#: Most specific first.
STATUS: tuple[tuple[type[errors.CoveyError], int], ...] = (
    (errors.InvalidArgument, 400),
    (errors.FailedPrecondition, 400),
    (errors.WrongUnlockKey, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Unsupported, 501),
    (errors.NotInCluster, 503),
    (errors.AlreadyInCluster, 503),
    (errors.NotLeader, 503),
    (errors.Unavailable, 503),
    (errors.NotSigned, 503),
    (errors.EngineDown, 503),
)


def status_of(error: errors.CoveyError) -> int:
    """The HTTP status for that kind of error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def to_response(error: errors.CoveyError) -> Response:
    """The answer that tells a client of it; ``code`` is the error's class name, for programs."""
    return Response.json({"message": str(error), "code": type(error).__name__}, status_of(error))


def explain(error: Exception) -> Response:
    """The same for whatever escaped a handler: what is no error of ours is a defect, and is logged whole."""
    if isinstance(error, errors.CoveyError):
        return to_response(error)
    log.error("a call of the control API failed by a defect of ours", exc_info=error)
    message = f"internal error ({type(error).__name__}); the log of covey.service on this host has the details"
    return Response.json({"message": message, "code": "InternalError"}, 500)
