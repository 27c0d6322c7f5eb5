# SPDX-License-Identifier: GPL-3.0-or-later
"""What managers say to each other on the Raft port, as bytes; msgpack of declared types, never a pickle.

frame = length 4 | version 1 | message
"""

from __future__ import annotations

import struct

import msgspec

from covey.model.codec import UNREADABLE
from covey.store.raft.segment import Entry

#: 2 brought pre-vote and Raft ids.  All managers of a cluster speak the same; another is refused with both numbers.
PROTOCOL = 2
#: A batch of entries, the largest entry and their wrapping fit; anything longer is not ours.
MAX_FRAME = 8 << 20
BATCH_BYTES = 4 << 20

_HEAD = struct.Struct("<IB")


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Anything said after the greeting."""


class Hello(Message, frozen=True, tag="hello"):
    """First on every connection, both ways: where and who the speaker is, its certificate permitting.

    ``session`` is another one after each start of the process.  ``epoch`` is which life of the cluster the speaker
    belongs to; those of another hear no more than this.
    """

    address: str
    session: bytes
    epoch: int = 0
    raft_id: str = ""


class RequestVote(Message, frozen=True, tag="vote"):
    """A candidate asks for the vote of ``term``."""

    term: int
    last_index: int
    last_term: int


class Vote(Message, frozen=True, tag="voted"):
    """The vote of ``term`` is given."""

    term: int


class PreVote(Message, frozen=True, tag="ask"):
    """A member asks whether it would get votes in ``term``; ``round`` is named in the answer."""

    term: int
    round: int
    last_index: int
    last_term: int


class PreVoted(Message, frozen=True, tag="told"):
    """Whether it would, as far as the speaker is concerned, whose own term is ``term``.  Binds nobody.

    ``leader`` is whom the speaker follows, at ``address``; empty if nobody: the asking one may never have heard of it.
    """

    term: int
    round: int
    granted: bool
    leader: str = ""
    address: str = ""


class TimeoutNow(Message, frozen=True, tag="lead"):
    """The leader of ``term`` asks the receiver to stand for election at once."""

    term: int


class Removed(Message, frozen=True, tag="removed"):
    """The receiver's vote was taken away, by entry ``index``; the connection ends with this."""

    index: int


class Append(Message, frozen=True, tag="append"):
    """The leader's entries after ``prev_index``; none is a heartbeat.  ``seq`` numbers the leader's messages."""

    term: int
    commit: int
    seq: int
    prev_index: int
    prev_term: int
    entries: list[Entry]


class Chunk(Message, frozen=True, tag="chunk"):
    """Frame ``number`` of the snapshot of the state after entry ``index`` of ``index_term``."""

    term: int
    commit: int
    seq: int
    index: int
    index_term: int
    number: int
    last: bool
    data: bytes


class Beat(Message, frozen=True, tag="beat"):
    """The leader is there and has nothing that the receiver could use now."""

    term: int
    commit: int
    seq: int


class Ack(Message, frozen=True, tag="ack"):
    """A follower's answer: it holds everything before ``next_index`` (success), or wants that next (reset), or neither.

    ``term`` is the follower's, and ends the leadership if it is later; ``seq`` is that of the newest message of this
    leader it has seen.
    """

    term: int
    seq: int
    next_index: int
    reset: bool
    success: bool


AnyMessage = Hello | RequestVote | Vote | PreVote | PreVoted | TimeoutNow | Removed | Append | Chunk | Beat | Ack

_decode = msgspec.msgpack.Decoder(AnyMessage).decode
_encode = msgspec.msgpack.Encoder().encode


class Malformed(Exception):
    """Bytes that no manager of this release would send."""


def encode(message: Message) -> bytes:
    """The frame of ``message``."""
    body = _encode(message)
    return _HEAD.pack(len(body) + 1, PROTOCOL) + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[AnyMessage]:
        """The messages that ``data`` completes; Malformed on the first that is none."""
        self._buffer += data
        messages: list[AnyMessage] = []
        position = 0
        while len(self._buffer) - position >= _HEAD.size:
            length, version = _HEAD.unpack_from(self._buffer, position)
            if not 1 < length <= MAX_FRAME:
                raise Malformed(f"a frame of {length} bytes; at most {MAX_FRAME} are allowed")
            if version != PROTOCOL:
                raise Malformed(f"a frame of protocol {version}; this release speaks {PROTOCOL}")
            end = position + _HEAD.size - 1 + length
            if end > len(self._buffer):
                break
            messages.append(_message(bytes(self._buffer[position + _HEAD.size : end])))
            position = end
        del self._buffer[:position]
        return messages


def _message(body: bytes) -> AnyMessage:
    try:
        message: AnyMessage = _decode(body)
    except UNREADABLE as error:
        raise Malformed(f"not a message: {error}") from error
    return message
