# SPDX-License-Identifier: GPL-3.0-or-later
"""Records and messages as msgpack, secrets included: for the store and for mutual TLS only, never for a person."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from covey.model.secret import Secret

T = TypeVar("T")

#: All that msgspec raises for bytes that are not what they should be, be they no text or nested without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _to_wire(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"{type(value).__name__} has no form on the wire")


def _from_wire(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, bytes):
        return Secret(value)
    raise NotImplementedError(f"{kind.__name__} has no form on the wire")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)


def encode(value: object) -> bytes:
    """``value`` as msgpack."""
    return _encoder.encode(value)


def decode(data: bytes, kind: Any) -> Any:
    """``data`` as a ``kind``; raises msgspec.DecodeError or ValidationError, which says where."""
    try:
        return msgspec.msgpack.decode(data, type=kind, dec_hook=_from_wire)
    except UNREADABLE as error:
        if isinstance(error, msgspec.MsgspecError):
            raise
        raise msgspec.DecodeError(str(error)) from error


def learn(*kinds: Any) -> None:
    """To be called while modules are loaded, for what more than one thread will decode.

    msgspec looks into a type when it is first decoded, and crashes the process if another thread meets it half done.
    """
    for kind in kinds:
        msgspec.msgpack.Decoder(kind, dec_hook=_from_wire)


def to_plain(value: object) -> Any:
    """Dicts, lists and scalars with wire names; secrets are refused by raising, as they must not reach a person."""
    return msgspec.to_builtins(value)
