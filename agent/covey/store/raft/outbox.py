# SPDX-License-Identifier: GPL-3.0-or-later
"""Between pysyncobj's dictionaries and our messages; holds every promise back until the disk keeps it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from covey.store.raft.wire import Ack, Message, RequestVote, TimeoutNow, Vote


class Network(Protocol):
    """Carries messages between members: in order as long as a connection lasts, or not at all."""

    def post(self, node_id: str, message: Message) -> bool:
        """Send, if there is a connection; never waits."""

    def room(self, node_id: str) -> bool:
        """Whether the member takes what is sent as fast as it is sent."""

    def asked(self) -> bool:
        """Whether every member was dialled at least once, with whatever outcome."""

    def admit(self, node_id: str, address: str) -> None:
        """Talk with this node from now on."""

    def expel(self, node_id: str) -> None:
        """Hang up, and refuse this node from now on."""


class Outbox(Transport):
    """What pysyncobj sends through.  Success acknowledgements wait for ``flush``, the rest leaves at once."""

    def __init__(self, network: Network, me: Node, term: Callable[[], int]) -> None:
        super().__init__(None, me, ())
        self.network = network
        self._term = term
        self._held: dict[str, Ack] = {}
        self._heard: dict[str, int] = {}
        self.seq = 0

    def next_seq(self) -> int:
        """The number of the next message to followers; never the same twice in this process."""
        self.seq += 1
        return self.seq

    def heard(self, node_id: str, seq: int) -> None:
        """Remember the leader's newest message, to be named in the answer."""
        self._heard[node_id] = seq

    def hold(self, node_id: str, ack: Ack) -> None:
        """Acknowledge once the log is durable; of several the furthest counts."""
        held = self._held.get(node_id)
        if held is not None and held.term == ack.term and held.next_index > ack.next_index:
            ack = Ack(ack.term, ack.seq, held.next_index, False, True)
        self._held[node_id] = ack

    def flush(self) -> None:
        """The log is durable: say so, but not to the leader of a term that is over."""
        held, self._held = self._held, {}
        for node_id, ack in held.items():
            if ack.term == self._term():
                self.network.post(node_id, ack)

    # -- what pysyncobj calls

    def addNode(self, node: Node) -> None:
        """Nothing: the core tells the network whom to talk with."""

    def dropNode(self, node: Node) -> None:
        """A member no longer."""
        self._held.pop(node.id, None)

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Convert and send."""
        match message["type"]:
            case "request_vote":
                vote = RequestVote(message["term"], message["last_log_index"], message["last_log_term"])
                return self.network.post(node.id, vote)
            case "response_vote":
                return self.network.post(node.id, Vote(message["term"]))
            case "timeout_now":
                return self.network.post(node.id, TimeoutNow(message["term"]))
            case "next_node_idx":
                return self._acknowledge(node.id, message)
        raise AssertionError(f"pysyncobj wanted to send {message['type']}, which our overrides rule out")

    def _acknowledge(self, node_id: str, message: dict[str, Any]) -> bool:
        seq = self._heard.get(node_id, 0)
        ack = Ack(self._term(), seq, message["next_node_idx"], message["reset"], message["success"])
        if not ack.success:
            return self.network.post(node_id, ack)
        self.hold(node_id, ack)
        return True

    def destroy(self) -> None:
        """Nothing: whoever opened the network closes it."""
