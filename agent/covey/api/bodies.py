# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of calls that are no specs: Docker's for ``/swarm``, ours for ``/covey/v1``.  Values only.

A declared service's spec stays raw here: to remove a service its name is enough.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec import field

from covey.model.admission import Admission, Wire
from covey.model.secret import Secret
from covey.model.spec import Availability, ClusterSpec, DependencySpec, Role, Spec

DEFAULT_LISTEN = "0.0.0.0:2377"


class Presence(StrEnum):
    """Whether a declared thing should be there."""

    PRESENT = "present"
    ABSENT = "absent"


class LabelsState(StrEnum):
    """Whether declared labels are added to those a node has, or are all it has."""

    MERGE = "merge"
    REPLACE = "replace"


class InitBody(Spec):
    """``POST /swarm/init``."""

    LATER: ClassVar[dict[str, tuple[object, ...]]] = {
        "DataPathAddr": (), "DataPathPort": (4789,),
        "DefaultAddrPool": (["10.0.0.0/8"],), "SubnetSize": (24,),
    }  # fmt: skip
    listen_addr: str = ""
    advertise_addr: str = ""
    availability: Availability | None = None
    force_new_cluster: bool = False
    auto_lock_managers: bool = False
    spec: ClusterSpec | None = None


class JoinBody(Spec):
    """``POST /swarm/join``."""

    LATER: ClassVar[dict[str, tuple[object, ...]]] = {"DataPathAddr": ()}
    listen_addr: str = ""
    advertise_addr: str = ""
    remote_addrs: tuple[str, ...] = ()
    join_token: Secret = Secret(b"")
    availability: Availability | None = None


class UnlockBody(Spec):
    """``POST /swarm/unlock``."""

    unlock_key: Secret = Secret(b"")


class DependencyBody(DependencySpec):
    """A secret's or config's spec with its data, which is base64."""

    data: Secret | None = None


class InitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a node needs to know to found a cluster; an empty address is the configured one, or the default route's."""

    listen_addr: str = ""
    advertise_addr: str = ""
    availability: Availability = Availability.ACTIVE
    spec: ClusterSpec = ClusterSpec()


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a node needs to know to join a cluster with a token; empty addresses as in InitRequest."""

    remote_addrs: tuple[str, ...]
    token: Secret
    listen_addr: str = ""
    advertise_addr: str = ""
    availability: Availability = Availability.ACTIVE


class JoinRequestBody(Wire, kw_only=True):
    """``POST /covey/v1/join/request``."""

    advertise_addr: str = ""


class AdmitRequest(Wire, kw_only=True):
    """``POST /covey/v1/join/admit``: who shall be let in.  ``csr`` is PEM."""

    csr: str = field(name="CSR")
    role: Role = Role.WORKER
    hostname: str = ""
    labels: dict[str, str] | None = None
    availability: Availability = Availability.ACTIVE


class CompleteRequest(Wire, kw_only=True):
    """``POST /covey/v1/join/complete``."""

    admission: Admission
    advertise_addr: str = ""
    listen_addr: str = ""


class BackupRequest(Wire, kw_only=True):
    """``POST /covey/v1/cluster/backup``: the state at ``index`` or later, sealed under the passphrase."""

    passphrase: Secret
    index: int = 0


class RestoreHead(Wire, kw_only=True):
    """The first line of ``POST /covey/v1/cluster/restore``; the backup follows as it is."""

    passphrase: Secret
    advertise_addr: str = ""
    listen_addr: str = ""


class RestoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a node needs to become the only manager of a backed-up cluster; empty addresses as in InitRequest."""

    file: bytes
    passphrase: Secret
    advertise_addr: str = ""
    listen_addr: str = ""

    def __repr__(self) -> str:
        return "RestoreRequest(***)"


class RecoverRequest(Wire, kw_only=True):
    """``POST /covey/v1/cluster/recover``: an empty address is the one that this manager has."""

    advertise_addr: str = ""
    listen_addr: str = ""


class FindRequest(Wire, kw_only=True):
    """``POST /covey/v1/cluster/find``: where this node's managers answer now (``host:2377``)."""

    addrs: tuple[str, ...]


class DeclareService(Wire, kw_only=True):
    """``POST /covey/v1/services/declare``; ``force_update`` replaces the tasks even if nothing else changes."""

    spec: dict[str, Any]
    state: Presence = Presence.PRESENT
    dry_run: bool = False
    force_update: bool = False


class DeclareDependency(Wire, kw_only=True):
    """``POST /covey/v1/secrets/declare``, and ``configs``; a spec without data keeps the data."""

    spec: dict[str, Any]
    state: Presence = Presence.PRESENT
    dry_run: bool = False


class DeclareNode(Wire, kw_only=True):
    """``POST /covey/v1/nodes/{id}/declare``: what is not sent stays as it is."""

    labels: dict[str, str] | None = None
    labels_state: LabelsState = LabelsState.MERGE
    labels_to_remove: list[str] | None = None
    availability: Availability | None = None
    role: Role | None = None
    state: Presence = Presence.PRESENT
    dry_run: bool = False
    force: bool = False


class DeclareLock(Wire, kw_only=True):
    """``POST /covey/v1/cluster/lock``: with a key, that one; without, the one there is, or a new one."""

    auto_lock: bool
    unlock_key: Secret = Secret(b"")
    dry_run: bool = False


class LockDeclared(Wire, kw_only=True):
    """The answer: what was, or with a dry run would be, done; never a key, only its number."""

    changed: bool
    auto_lock: bool
    unlock_key_version: int


class Difference(Wire, kw_only=True):
    """One field that differs; None where it is not there."""

    path: str
    before: Any
    after: Any


class Declared(Wire, kw_only=True):
    """The answer to a declaration: what was, or with a dry run would be, done."""

    changed: bool
    action: str
    id: str = field(name="ID")
    version: int
    before: Any
    after: Any
    diff: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()


class Failure(Wire, kw_only=True):
    """Why a place of a service is not filled: what its last task says."""

    task_id: str = field(name="TaskID")
    slot: int
    node_id: str = field(name="NodeID")
    hostname: str
    state: str
    error: str


class Convergence(Wire, kw_only=True):
    """How far a service is from what was declared.  ``version`` is that of the spec it is about."""

    converged: bool
    running: int
    desired: int
    update_state: str
    version: int
    failures: tuple[Failure, ...] = ()

    @property
    def is_final(self) -> bool:
        """Waiting longer changes nothing."""
        return self.converged or self.update_state == "paused"
