# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys of nodes and the requests made with them.  Never in it: files, certificates."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from covey.model import errors
from covey.model.secret import Secret

CSR_LIMIT = 8 * 1024
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def new_key() -> Secret:
    """A fresh P-256 key as unencrypted PKCS#8 PEM."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def key_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    return Secret(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def read_key(pem: Secret) -> ec.EllipticCurvePrivateKey:
    """The key itself; InvalidArgument, never showing a byte of it, when it cannot be read."""
    try:
        key = serialization.load_pem_private_key(pem.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise errors.InvalidArgument("the private key is not a readable, unencrypted PEM key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise errors.InvalidArgument("the private key is not an elliptic-curve key")
    return key


def is_sealed(pem: Secret) -> bool:
    """Whether the key can be read only with a guard."""
    return pem.reveal().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def seal_key(pem: Secret, guard: Secret) -> Secret:
    """The key as encrypted PKCS#8 PEM, which ``open_key`` opens with the same guard."""
    encryption = serialization.BestAvailableEncryption(guard.reveal().hex().encode())
    return Secret(
        read_key(pem).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )


def open_key(pem: Secret, guard: Secret) -> Secret:
    """The key that was sealed with that guard; InvalidArgument if it was not."""
    try:
        key = serialization.load_pem_private_key(pem.reveal(), password=guard.reveal().hex().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise errors.InvalidArgument("the private key is sealed, and not with the guard beside it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise errors.InvalidArgument("the private key is not an elliptic-curve key")
    return key_pem(key)


def make_csr(key: Secret) -> bytes:
    """A request for a certificate on this key.  It names nobody: who it is for, the signer decides."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_key_of_csr(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key a request proves possession of.  Everything else in the request is ignored."""
    if len(pem) > CSR_LIMIT:
        raise errors.InvalidArgument(f"larger than {CSR_LIMIT} bytes", "CSR")
    try:
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        digest = csr.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise errors.InvalidArgument(f"not a readable PEM certificate request: {error}", "CSR") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise errors.InvalidArgument("the key must be an elliptic-curve key on P-256, P-384 or P-521", "CSR")
    if not isinstance(digest, _HASHES) or not csr.is_signature_valid:
        raise errors.InvalidArgument("the signature does not prove possession of the key (SHA-256 or better)", "CSR")
    return key
