# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases side by side: nothing is written that a manager with a vote cannot read, and nobody gets one who cannot read
what was written already.

Each agent says in its node's description which format it reads (``state_format``), the view knows the newest one in it
(``format``).  So a newer kind of change or object can be used from the moment the last manager is upgraded, with no
switch to be thrown; from then on an older release is kept out.
"""

from __future__ import annotations

from covey.model.errors import FailedPrecondition
from covey.model.objects import Node
from covey.state.view import View


def require_readers(view: View, wanted: int) -> None:
    """FailedPrecondition naming the managers that cannot read ``wanted``."""
    voters = (node for node in view.nodes.values() if node.manager_address)
    behind = sorted(_name(node) for node in voters if node.description.state_format < wanted)
    if behind:
        raise FailedPrecondition(
            f"this needs format {wanted} of the managers' state, which {', '.join(behind)} cannot read: upgrade the "
            "agent there first. Nothing was changed"
        )


def require_reader(view: View, node: Node) -> None:
    """FailedPrecondition if that node's agent cannot read what the managers have written."""
    if node.description.state_format < view.format:
        raise FailedPrecondition(
            f"the agent of {_name(node)} (release {node.description.agent_version or 'not known yet'}) reads format "
            f"{node.description.state_format} of the managers' state, and format {view.format} is in use: upgrade it "
            "before it becomes a manager. Nothing was changed"
        )


def _name(node: Node) -> str:
    return node.description.hostname or node.id
