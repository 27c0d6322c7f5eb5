# SPDX-License-Identifier: GPL-3.0-or-later
"""CFSSL's ``/sign`` protocol: what is asked and what was answered, as bytes.  Pure.

Never in it: whether a certificate is the one that was asked for (``security.external``), sockets.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from covey.model.codec import UNREADABLE
from covey.model.errors import NotSigned, Unavailable
from covey.security.certificate import UNIT_OF_ROLE
from covey.security.external import Leaf

#: The profile that an authority must have for the certificate by which one root vouches for another; the peer's name.
CROSS_PROFILE = "CA"
OK, SERVER_ERROR = 200, 500
#: As much of an authority's own words as is repeated.
LONGEST_WORDS = 300


class _Name(msgspec.Struct, frozen=True):
    organization: str = field(name="O")
    unit: str = field(name="OU")


class _Subject(msgspec.Struct, frozen=True):
    common_name: str = field(name="CN")
    names: tuple[_Name, ...]


class _Sign(msgspec.Struct, frozen=True, omit_defaults=True):
    certificate_request: str
    hosts: tuple[str, ...] = ()
    subject: _Subject | None = None
    profile: str = ""


class _Result(msgspec.Struct, frozen=True):
    certificate: str = ""


class _Said(msgspec.Struct, frozen=True):
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    success: bool
    result: _Result | None = None
    errors: tuple[_Said, ...] | None = None


def leaf_request(wanted: Leaf) -> bytes:
    """The body that asks for a node's certificate."""
    name = _Name(wanted.cluster_id, UNIT_OF_ROLE[wanted.role])
    subject = _Subject(wanted.node_id, (name,))
    return msgspec.json.encode(_Sign(wanted.csr.decode("ascii"), wanted.hosts, subject))


def cross_request(csr: bytes) -> bytes:
    """The body that asks to vouch for another root: name and key are those of the request."""
    return msgspec.json.encode(_Sign(csr.decode("ascii"), profile=CROSS_PROFILE))


def certificate_in(status: int, body: bytes) -> bytes:
    """The certificate (PEM) in an answer; NotSigned if there is none, Unavailable if there may be one later."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except UNREADABLE:
        answer = None
    said = "; ".join(each.message for each in answer.errors or ()) if answer else ""
    words = f": {said[:LONGEST_WORDS]}" if said else ""
    if status >= SERVER_ERROR:
        raise Unavailable(f"it answers HTTP {status}{words}")
    if status != OK:
        raise NotSigned(f"it refuses with HTTP {status}{words}")
    if answer is None:
        raise NotSigned("its answer is not what CFSSL answers (is the URL that of `/api/v1/cfssl/sign`?)")
    if not answer.success or answer.result is None or not answer.result.certificate:
        raise NotSigned(f"it refuses{words}" if words else "it answers without a certificate")
    return answer.result.certificate.encode()
