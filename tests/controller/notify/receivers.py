"""Real receivers on loopback: an HTTP server that does as it is told, a mail server, certificates."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate(NamedTuple):
    """A server's certificate, which is its own authority, and its key."""

    file: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.file, self.key)
        return made


def make_certificate(folder: Path, *hosts: str) -> Certificate:
    """Make a certificate of 127.0.0.1, and of hosts by name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, hosts))
    address = x509.SubjectAlternativeName(names)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(address, False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    certificate = Certificate(folder / "server.pem", folder / "server.key")
    certificate.file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    certificate.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return certificate


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Hook:
    """An HTTP server; `statuses` are its next responses, then 204.  `drip_s`: it sends a byte each tenth of a second."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    drip_s: float = 0.0
    received: list[Received] = field(default_factory=list)


@contextlib.contextmanager
def hook(certificate: Certificate | None = None) -> Iterator[Hook]:
    """Run an HTTP server."""
    told = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            end = time.monotonic() + told.drip_s
            while time.monotonic() < end:
                self.wfile.write(b"H")
                time.sleep(0.1)
            status = told.statuses.pop(0) if told.statuses else 204
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{told.url}elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        server.socket = certificate.context().wrap_socket(server.socket, server_side=True)
    told.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


class Mails:
    """What a mail server took; it knows the user `litefleet` with the password `secret word`."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.port = 0

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        self.taken.append(envelope)
        return "250 taken"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    @staticmethod
    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = (data.login, data.password) == (b"litefleet", b"secret word")
        return AuthResult(success=right, handled=False)


@contextlib.contextmanager
def mail_server(certificate: Certificate | None, at_once: bool = False) -> Iterator[Mails]:
    """Run a mail server with STARTTLS, with TLS from the first byte (`at_once`), or without TLS."""
    mails = Mails()
    context = certificate.context() if certificate else None
    # aiosmtpd takes port 0 for its own check of the start only, so the port is chosen here
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as chosen:
        mails.port = chosen.getsockname()[1]
    controller = Controller(
        mails,
        hostname="127.0.0.1",
        port=mails.port,
        ssl_context=context if at_once else None,
        tls_context=None if at_once else context,
        require_starttls=context is not None and not at_once,
        authenticator=mails.authenticate,
        auth_required=context is not None,
        auth_require_tls=not at_once,
    )
    controller.start()
    try:
        yield mails
    finally:
        controller.stop()
