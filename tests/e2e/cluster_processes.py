"""A real Dask scheduler and real workers for tests, each a process of its own on loopback, and certificates for them."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from litefleet_controller.cluster.address import TlsFiles

_START_S = 120.0  # for a process on a busy machine


@dataclass
class ClusterProcesses:
    """A scheduler and its workers; a context manager that ends them."""

    folder: Path
    tls: TlsFiles = TlsFiles()  # noqa: RUF009 - a NamedTuple
    address: str = ""
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _scheduler: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        told = self.folder / "scheduler.json"
        host = "tls://127.0.0.1" if self.tls.given else "tcp://127.0.0.1"
        words = ["--host", host, "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
        words += self._tls_words("--tls-ca-file", "--tls-cert", "--tls-key")
        self._scheduler = self._start("scheduler", [sys.executable, "-m", "distributed.cli.dask_scheduler", *words])
        self._wait("scheduler", self._scheduler, lambda: told.exists() and told.read_text().rstrip().endswith("}"))
        self.address = json.loads(told.read_text())["address"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self.workers.values(), self._scheduler]:
            assert process is not None
            process.kill()
            process.wait()

    def _tls_words(self, *names: str) -> list[str]:
        return [word for pair in zip(names, map(str, self.tls), strict=True) for word in pair] if self.tls.given else []

    def _start(self, name: str, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    def _wait(self, name: str, process: subprocess.Popen[bytes], done: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_S
        while not done():
            assert process.poll() is None, self.log(name)
            assert time.monotonic() < end, self.log(name)
            time.sleep(0.05)

    def start(self, name: str, *words: str) -> None:
        """Start a worker with a cache of its own; `ready` waits for it."""
        argv = [sys.executable, "-m", "litefleet_controller", "cluster", "worker", self.address, "--name", name]
        argv += ["--cache", str(self.cache(name)), *self._tls_words("--tls-ca", "--tls-cert", "--tls-key"), *words]
        self.workers[name] = self._start(name, argv)

    def ready(self) -> None:
        """Wait until every worker has joined."""
        for name, process in self.workers.items():
            self._wait(name, process, lambda name=name: b"is a worker of" in self.log(name))  # type: ignore[misc]

    def connected_to(self, port: int) -> list[str]:
        """Return the workers that hold a connection to a port of this machine."""
        import psutil  # comes with Dask

        held = {name: psutil.Process(process.pid).net_connections("tcp") for name, process in self.workers.items()}
        return [name for name, found in held.items() if any(c.raddr and c.raddr.port == port for c in found)]

    def kill(self, name: str) -> None:
        """Kill a worker, as a lost machine would end."""
        self.workers[name].kill()
        self.workers[name].wait()

    def kill_scheduler(self) -> None:
        """Kill the scheduler."""
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def cache(self, name: str) -> Path:
        """The folder of a worker's blobs."""
        return self.folder / f"cache-{name}"

    def log(self, name: str) -> bytes:
        """What a process has written so far."""
        return (self.folder / f"{name}.log").read_bytes()


def certificates(folder: Path) -> TlsFiles:
    """Write an authority and one certificate for 127.0.0.1, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, "authority", authority_key)
    member = _certificate("member", key, "authority", authority_key)
    files = TlsFiles(folder / "authority.pem", folder / "member.pem", folder / "member.key")
    assert files.authority
    assert files.certificate
    assert files.key
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(member.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return files


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    is_authority = name == issuer
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
