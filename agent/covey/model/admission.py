# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node gets when it is let in; nothing secret: a certificate is of use only to the holder of its key."""

from __future__ import annotations

from typing import dataclass_transform

import msgspec
from msgspec import field

from covey.model.spec import Role


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """Base of bodies of Covey's own paths."""


class ManagerInfo(Wire, kw_only=True):
    """Where a manager's cluster server answers (``host:2377``)."""

    node_id: str = field(name="NodeID")
    addr: str


class Admission(Wire, kw_only=True):
    """A signed certificate, the root that signed it, and whom to turn to.  All PEM is text."""

    node_id: str = field(name="NodeID")
    cluster_id: str = field(name="ClusterID")
    role: Role
    certificate: str
    root_ca: str = field(name="RootCA")
    managers: tuple[ManagerInfo, ...]
