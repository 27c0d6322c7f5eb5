# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS contexts of the cluster: 1.3 only, trust in our own root only, no resumption; and who is at the other end.

A client context checks within the handshake, before a byte of the request is sent, that the server is a *manager* of
its cluster: a stolen worker's certificate must not collect join tokens, and one root may serve two clusters.  It
ignores the host name, addresses are not identities.
Never in it: what a role may do.
"""

from __future__ import annotations

import os
import ssl
from typing import Any, Literal

from cryptography import x509

from covey.model import errors
from covey.model.spec import Role
from covey.security.certificate import MANAGER_NAME, Peer, is_issued_by, read_certificates, read_peer
from covey.security.identity import Identity

ClientCertificates = Literal["optional", "required"]


class _Connection(ssl.SSLObject):
    """As a client, it fails its handshake with whoever is no manager of the cluster."""

    def do_handshake(self) -> None:
        super().do_handshake()
        if self.server_side:
            return
        try:
            require_manager(self)
        except errors.Forbidden as refusal:
            error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, str(refusal))
            error.verify_code, error.verify_message = 0, str(refusal)
            raise error from refusal


class ClusterContext(ssl.SSLContext):
    """A context that knows its cluster; '' before the joiner knows it.

    As a client it always asks for the name of a manager, whatever address the caller dials.
    """

    cluster_id: str = ""
    sslobject_class = _Connection

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **self._named(options))

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **self._named(options))

    def _named(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("server_side"):
            return options
        return {**options, "server_hostname": MANAGER_NAME}


def server_context(identity: Identity, client_certificates: ClientCertificates) -> ClusterContext:
    """For a manager's ports.  A certificate that is shown is always verified; "optional" only allows none.

    In TLS 1.3 a refused client learns of it at its first read, not in its handshake.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity.root, identity.cluster_id)
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED if client_certificates == "required" else ssl.CERT_OPTIONAL
    _present(context, identity)
    return context


def client_context(identity: Identity) -> ClusterContext:
    """For a node that calls a manager of its cluster."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity.root, identity.cluster_id)
    _present(context, identity)
    return context


def pinned_client_context(root_pem: bytes) -> ClusterContext:
    """For a joiner that has checked this root against its token: a manager under that root, no certificate of ours."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, root_pem, "")


def introduction_context() -> ssl.SSLContext:
    """For one call only, `GET /v1/root`: trusts nobody and checks nothing; `tokens.check_root` judges the answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def authority_context(identity: Identity, root_pem: bytes) -> ssl.SSLContext:
    """For a manager that calls an authority outside of the cluster, whose certificate is of this root, for its host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=root_pem.decode("ascii"))
    _present(context, identity)
    return context


def peer(connection: ssl.SSLObject | ssl.SSLSocket) -> Peer:
    """Whose certificate the other end has shown; Forbidden when none, not a node's, or of another cluster."""
    context = connection.context
    if not isinstance(context, ClusterContext):
        raise TypeError("the connection was not made with a context of this module")
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise errors.Forbidden("no certificate was shown: only nodes of the cluster may call this")
    found = read_peer(x509.load_der_x509_certificate(der))
    if context.cluster_id and found.cluster_id != context.cluster_id:
        raise errors.Forbidden(
            f"the certificate is of cluster {found.cluster_id}, this node is in cluster {context.cluster_id}"
        )
    return found


def holds(connection: ssl.SSLObject | ssl.SSLSocket, identity: Identity) -> bool:
    """Whether the certificate shown is signed by a root that this identity trusts now; the connection may be older."""
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return False
    leaf = x509.load_der_x509_certificate(der)
    return any(is_issued_by(leaf, root) for root in read_certificates(identity.root, "root certificate"))


def require_manager(connection: ssl.SSLObject | ssl.SSLSocket) -> Peer:
    """As `peer`, and Forbidden unless it is a manager."""
    found = peer(connection)
    if found.role is not Role.MANAGER:
        raise errors.Forbidden(f"node {found.node_id} is a worker: only a manager's certificate opens this")
    return found


def _context(protocol: int, root_pem: bytes, cluster_id: str) -> ClusterContext:
    context = ClusterContext(protocol)
    context.cluster_id = cluster_id
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=root_pem.decode("ascii"))
    return context


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    # The ssl module reads files only; this one never touches a disk.
    descriptor = os.memfd_create("covey-identity")
    try:
        os.write(descriptor, identity.certificate + b"\n" + identity.key.reveal())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
