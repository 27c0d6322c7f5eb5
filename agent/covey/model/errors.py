# SPDX-License-Identifier: GPL-3.0-or-later
"""The one tree of errors.  Each says what is wrong, where, and what to do next; ``api`` alone maps them to a status."""

from __future__ import annotations


class CoveyError(Exception):
    """Whatever can go wrong that a person or a client should read about."""


class InvalidArgument(CoveyError):
    """The request itself is wrong.

    ``path`` is that of the field as the user writes it, e.g. ``TaskTemplate.ContainerSpec.Image``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class NotFound(CoveyError):
    """No such object."""

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"{kind} {reference} not found")
        self.kind, self.reference = kind, reference


class Conflict(CoveyError):
    """The request clashes with the state: a taken name, a stale version, an object in use."""


class OutOfSequence(Conflict):
    """Somebody else changed the object since the caller read it."""

    def __init__(self, kind: str, reference: str, read: int, current: int) -> None:
        super().__init__(
            f"update out of sequence: {kind} {reference} is at version {current}, the request was made "
            f"from version {read}; read it again and repeat the change"
        )
        self.read, self.current = read, current


class FailedPrecondition(CoveyError):
    """Right request, wrong moment: the message says what must hold first."""


class Unsupported(CoveyError):
    """A part of the peer's API that Covey does not serve (yet)."""


class Forbidden(CoveyError):
    """The caller's certificate or token does not open this."""


class NotInCluster(CoveyError):
    """This node is not a manager of a cluster, so it cannot answer."""


class AlreadyInCluster(CoveyError):
    """This node is already part of a cluster."""


class Locked(NotInCluster):
    """This manager's disk can only be read with the cluster's unlock key, which nobody has given it yet."""

    def __init__(self) -> None:
        super().__init__(
            "Swarm is encrypted and needs to be unlocked before it can be used. "
            'Please use "docker swarm unlock" to unlock it.'
        )


class WrongUnlockKey(CoveyError):
    """Not the unlock key that this manager's disk was locked with; ``version`` is that of the right one."""

    def __init__(self, version: int) -> None:
        super().__init__(
            "swarm could not be unlocked: invalid key provided; nothing was changed. This manager was locked with key "
            f"number {version} of its cluster: a newer one, made while it was down, does not open it"
        )


class NotLeader(CoveyError):
    """This manager is not the leader; ``leader`` is the node id of the one who is, if known."""

    def __init__(self, leader: str | None) -> None:
        super().__init__(
            "this manager is not the leader" + (f"; node {leader} is" if leader else "; none is known now")
        )
        self.leader = leader


class Unavailable(CoveyError):
    """No quorum, no answer in time.  The outcome of a write is unknown: it may still take effect."""


class NotSigned(CoveyError):
    """An authority outside of the cluster did not sign, or signed what is not what was asked for."""


class Superseded(CoveyError):
    """This manager belongs to its cluster as it was before a recovery, and decides nothing any more."""


class EngineError(CoveyError):
    """The container engine refused or failed; the text is its own."""


class EngineDown(EngineError):
    """The container engine does not answer."""


class BadState(CoveyError):
    """A file of this node's own state is truncated, damaged or somebody else's.  Nothing was deleted."""


class BadConfig(CoveyError):
    """The agent's configuration file is wrong; the message names file and line."""
