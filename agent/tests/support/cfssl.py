# SPDX-License-Identifier: GPL-3.0-or-later
"""An authority outside of the cluster, as CFSSL serves one: ``POST /api/v1/cfssl/sign`` over mutual TLS.

``spoil``, ``policy`` and ``answer`` make it misbehave.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from tempfile import NamedTemporaryFile
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from covey.daemon.clock import SystemClock
from covey.security.ca import RootCA

PATH = "/api/v1/cfssl/sign"
PEM = serialization.Encoding.PEM
Body = dict[str, Any]
Answer = Callable[[web.Request], "web.StreamResponse | Any"]


@dataclass
class Root:
    """A root as an operator's own tools make one."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def root_of(own: RootCA) -> Root:
    """That root of a cluster, as if somebody outside had it."""
    key = serialization.load_pem_private_key(own.key_pem.reveal(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Root(x509.load_pem_x509_certificate(own.cert_pem), key)


def make_root(name: str = "Example Corp swarm") -> Root:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key(), timedelta(days=3650)).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return Root(builder.add_extension(_usage(authority=True), critical=True).sign(key, hashes.SHA256()), key)


@dataclass
class Policy:
    """What the authority puts into a certificate besides names and key; a test that wants a bad one changes it."""

    lifetime: timedelta = timedelta(days=30)
    uses: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    authority: bool = False
    cross_profile: bool = True


def sign(root: Root, body: Body, policy: Policy) -> bytes:
    """The certificate (PEM) for such a request."""
    csr = x509.load_pem_x509_csr(body["certificate_request"].encode())
    is_cross = body.get("profile") == "CA"
    subject = _subject(body["subject"]) if "subject" in body else csr.subject
    lifetime = timedelta(days=3000) if is_cross else policy.lifetime
    builder = _builder(subject, root.certificate.subject, csr.public_key(), lifetime)
    if is_cross or policy.authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
    else:
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(policy.uses), critical=False)
    if body.get("hosts"):
        names = x509.SubjectAlternativeName([_host(name) for name in body["hosts"]])
        builder = builder.add_extension(names, critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    return builder.add_extension(issuer, critical=False).sign(root.key, hashes.SHA256()).public_bytes(PEM)


@dataclass
class Cfssl:
    """A running authority.  It lets in whoever shows a certificate of one of ``clients``, which may grow."""

    root: Root
    clients: list[bytes] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)
    host: str = "127.0.0.1"
    answer: Answer | None = None
    spoil: Callable[[Body], Body] = lambda body: body
    asked: list[Body] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}{PATH}"

    async def start(self) -> Cfssl:
        """Listen; on the port of before, if there was one."""
        application = web.Application()
        application.router.add_post(PATH, self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._context(), reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        for pem in (self.root.pem, *self.clients):
            context.load_verify_locations(cadata=pem.decode())
        present(context, self.root, self.host)
        return context

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        shown = request.transport.get_extra_info("peercert")
        self.callers.append(next(value for ((name, value),) in shown["subject"] if name == "commonName"))
        body = await request.json()
        self.asked.append(body)
        if self.answer is not None:
            return await self.answer(request)
        if body.get("profile") == "CA" and not self.policy.cross_profile:
            return failed("the policy has no such profile")
        return web.json_response(succeeded(sign(self.root, self.spoil(body), self.policy)))


def succeeded(certificate: bytes) -> Body:
    return {"success": True, "result": {"certificate": certificate.decode()}, "errors": [], "messages": []}


def failed(message: str, status: int = 400) -> web.Response:
    answer = {"success": False, "result": None, "errors": [{"code": 5100, "message": message}], "messages": []}
    return web.json_response(answer, status=status)


def present(context: ssl.SSLContext, root: Root, host: str) -> None:
    """Have the context show a certificate of that root for that host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    leaf = sign(root, {"certificate_request": csr.public_bytes(PEM).decode(), "hosts": [host]}, Policy())

    with NamedTemporaryFile() as file:
        file.write(leaf + Root(root.certificate, key).key_pem)
        file.flush()
        context.load_cert_chain(file.name)


def _subject(subject: Body) -> x509.Name:
    oids = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}
    parts = [x509.NameAttribute(oids[key], each[key]) for each in subject["names"] for key in ("O", "OU")]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, subject["CN"])])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(SystemClock().now(), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    names = ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    return x509.KeyUsage(
        digital_signature=not authority,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        **dict.fromkeys(names, False),
    )
