# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of this host: which one others should use, and whether a port is free."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket

from covey.model.errors import FailedPrecondition, InvalidArgument

log = logging.getLogger(__name__)

#: For asking the kernel for a route; nothing is ever sent (RFC 5737, RFC 3849).
_SOMEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def advertise_address(wanted: str) -> str:
    """``wanted`` as an IP address without port, or if empty that of the default route."""
    if wanted:
        host = wanted if wanted.count(":") != 1 else wanted.partition(":")[0]
        try:
            return str(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            raise InvalidArgument(f"{wanted!r} is not an IP address", "AdvertiseAddr") from None
    for family, somewhere in _SOMEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((somewhere, 9))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    raise InvalidArgument("this host has no default route: say which address others reach it by", "AdvertiseAddr")


def is_here(address: str) -> bool:
    """Whether this host has the address."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def at_home(advertised: str, wanted: str) -> str:
    """The address by which others should know this host now: ``wanted``, once ``advertised`` is no longer here."""
    if is_here(advertised):
        return advertised
    address = advertise_address(wanted) if wanted else advertised
    if address == advertised:
        log.warning(
            "this host does not have the address %s, by which the others know it: if it has another one for good, set "
            "advertise_addr in coveyd.toml to that and start the agent again",
            advertised,
        )
    else:
        log.info("this node's address is %s now, no longer %s", address, advertised)
    return address


def split(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[HOST]:PORT``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """``HOST:PORT``, with brackets where it needs them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def raft_address(advertise: str, raft_listen: str) -> str:
    """Where other managers dial this one's Raft."""
    return join(advertise, split(raft_listen)[1])


def require_free(*addresses: str) -> None:
    """FailedPrecondition naming the port that somebody else listens on."""
    for address in addresses:
        host, port = split(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                reason = "another program listens on it" if error.errno == errno.EADDRINUSE else error.strerror
                raise FailedPrecondition(
                    f"port {port} of {socket.gethostname()} cannot be used ({reason}): `ss -ltnp sport = :{port}` "
                    "shows who has it; free it, or set listen_addr and raft_listen_addr in coveyd.toml"
                ) from error
