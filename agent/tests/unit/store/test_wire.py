# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as bytes, and bytes that are none."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.store.raft.wire import (
    MAX_FRAME,
    PROTOCOL,
    Ack,
    Append,
    Beat,
    Chunk,
    Frames,
    Hello,
    Malformed,
    PreVote,
    PreVoted,
    Removed,
    RequestVote,
    TimeoutNow,
    Vote,
    encode,
)

ALL = [
    Hello("10.0.0.1:2378", b"session!", 7, "node.mark"),
    RequestVote(3, 10, 2),
    Vote(3),
    PreVote(4, 7, 10, 2),
    PreVoted(3, 7, True),
    TimeoutNow(3),
    Removed(12),
    Append(3, 9, 77, 10, 2, [(b"\x00one", 11, 3), (b"\x00two", 12, 3)]),
    Append(3, 9, 77, 10, 2, []),
    Chunk(3, 9, 78, 100, 2, 0, False, b"state"),
    Beat(3, 9, 79),
    Ack(3, 77, 13, False, True),
]


@pytest.mark.parametrize("message", ALL)
def test_each_message_survives(message):
    assert Frames().feed(encode(message)) == [message]


@given(st.lists(st.integers(1, 60)))
def test_a_stream_may_be_cut_anywhere(cuts):
    stream, frames, found, position = b"".join(encode(message) for message in ALL), Frames(), [], 0
    for cut in cuts:
        found += frames.feed(stream[position : position + cut])
        position += cut
    assert found + frames.feed(stream[position:]) == ALL


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_waits_for_more(data):
    try:
        messages = Frames().feed(data)
    except Malformed:
        return
    assert all(isinstance(message, tuple(type(known) for known in ALL)) for message in messages)


@given(st.sampled_from(ALL), st.data())
def test_a_message_with_a_flipped_byte_is_another_one_or_malformed(message, data):
    frame = bytearray(encode(message))
    at = data.draw(st.integers(4, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    try:
        Frames().feed(bytes(frame))
    except Malformed:
        return


def test_text_that_is_no_utf8_is_malformed():
    frame = encode(Hello("address", b"session")).replace(b"address", b"\xff" * 7)
    with pytest.raises(Malformed, match="not a message"):
        Frames().feed(frame)


def test_an_oversized_frame_is_refused_before_it_is_awaited():
    with pytest.raises(Malformed, match="bytes"):
        Frames().feed(struct.pack("<IB", MAX_FRAME + 1, 1))


def test_another_protocol_is_named():
    with pytest.raises(Malformed, match="protocol 9; this release speaks 2"):
        Frames().feed(struct.pack("<IB", 5, 9))


def test_a_message_of_wrong_types_is_refused():
    body = b"\x92\xa4vote\xa3one"
    with pytest.raises(Malformed, match="not a message"):
        Frames().feed(struct.pack("<IB", len(body) + 1, PROTOCOL) + body)
