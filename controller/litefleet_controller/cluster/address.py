"""Where a cluster's scheduler listens, and how the connections to it are protected.

Whoever can speak to a Dask scheduler can run code on all its workers: tasks travel as pickles.  So plain TCP is accepted on
loopback only, or where a person says that the network is safe.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ..common.errors import RunError, UsageError

if TYPE_CHECKING:
    from distributed import Security

_PORT = 8786  # Dask's own default
_INSTALL = "the extra `cluster` is not installed: pip install 'litefleet[cluster]'"


class ClusterError(RunError):
    """The cluster cannot be used."""


class TlsFiles(NamedTuple):
    """The certificates of one member of a cluster; all or none is given."""

    authority: Path | None = None  # of the certificates of all members
    certificate: Path | None = None  # this member's
    key: Path | None = None

    @property
    def given(self) -> bool:
        """Whether any file is given."""
        return any(self)


def checked_address(text: str, tls: TlsFiles, plain_tcp: bool = False) -> str:
    """Return a scheduler's address with scheme and port: "tls://cluster.example:8786".

    Raises: UsageError for another scheme, for TLS without its three files, and for plain TCP to another machine unless
    `plain_tcp`.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("tls" if tls.given else "tcp"), text
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:
        host, port = "", 0
    if scheme not in ("tls", "tcp") or not host or parts.path.strip("/") or parts.username:
        raise UsageError(f"{text[:100]} is no address of a Dask scheduler: write tls://HOST:PORT or tcp://HOST:PORT")
    if scheme == "tls":
        _check_files(tls)
    elif tls.given:
        raise UsageError(f"{text[:100]} is plain TCP, and certificates are given: write tls://{rest[:80]}")
    elif not plain_tcp and not _is_loopback(host):
        raise UsageError(
            f"{text[:100]} is plain TCP to another machine, where everybody on the way can run code on all workers: write "
            "tls:// and give the certificates, or permit plain TCP in a network that you alone use (docs/cluster.md)"
        )
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_files(tls: TlsFiles) -> None:
    missing = [name for name, path in zip(("authority", "certificate", "key"), tls, strict=True) if path is None]
    if missing:
        raise UsageError(
            "tls:// needs three files: the authority's certificate, this member's certificate and its key; "
            f"missing: {', '.join(missing)}"
        )
    for path in tls:
        assert path is not None
        try:
            path.open("rb").close()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def security_for(address: str, tls: TlsFiles) -> Security:
    """Return what Dask's connections to `address`, as `checked_address` returned it, are made with.

    Raises: ClusterError where the extra is missing.
    """
    require_extra()
    from distributed import Security

    if not address.startswith("tls://"):
        return Security(require_encryption=False)
    ca, cert, key = (str(path) for path in tls)
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=cert,
        tls_client_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
    )


def require_extra() -> None:
    """Import Dask, and keep its own messages off the terminal.  Raises: ClusterError where it is not installed."""
    import logging

    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ClusterError(_INSTALL) from error
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is reported as findings
