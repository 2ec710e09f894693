"""The command `cluster`: be a worker of a Dask cluster, which holds the connections to devices for rollouts."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import command, run_async, say

_MB = 1_000_000
_MOST_LABEL = 128  # characters


class _Action(StrEnum):
    WORKER = "worker"


@command
def cluster(
    action: Annotated[_Action, typer.Argument(help="worker: serve a scheduler until it ends.")],
    scheduler: Annotated[str, typer.Argument(help="Its address: tls://HOST:PORT, or tcp://HOST:PORT on this machine.")],
    site: Annotated[
        list[str] | None,
        typer.Option("--site", help="Take the devices of this group or tag of the inventory (may be repeated)."),
    ] = None,
    jump: Annotated[
        list[str] | None, typer.Option("--jump", help="Take the devices behind this jump host (may be repeated).")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=2000, help="Devices at once.")] = 32,
    name: Annotated[str, typer.Option("--name", help="Name in messages; default: this host's, and a number.")] = "",
    key: Annotated[
        Path | None,
        typer.Option("--key", help="SSH key for all devices; default: what the inventory names, on this machine."),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--tls-ca", help="Certificate of the authority of the whole cluster.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate of this worker.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Key of that certificate.")] = None,
    plain_tcp: Annotated[
        bool, typer.Option("--plain-tcp", help="Permit a connection without TLS to another machine.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address at which the scheduler reaches this worker.")] = "",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for models and runtimes; default: in ~/.cache/litefleet.")
    ] = None,
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=10, help="Size of that folder, in MB.")] = 4000,
) -> None:
    """Hold connections to devices for rollouts with --cluster, as a worker of a Dask scheduler."""
    from ..build.toolchain import default_cache
    from ..cluster.address import TlsFiles, checked_address, security_for
    from ..cluster.blobs import BlobFolder
    from ..cluster.messages import Description
    from ..cluster.worker import serve
    from ..common.files import expanded

    for label in (*(site or ()), *(jump or ()), name):
        if not label.isprintable() or len(label) > _MOST_LABEL:
            raise UsageError(f"{label[:40]!r} is no label: use at most {_MOST_LABEL} printable characters")
    tls = TlsFiles(*(path and expanded(str(path)) for path in (authority, certificate, tls_key)))
    address = checked_address(scheduler, tls, plain_tcp)
    if key is not None and not expanded(str(key)).is_file():
        raise UsageError(f"{key} is no file: --key names an SSH key on this machine")
    description = Description(
        name or f"{socket.gethostname()}-{os.getpid()}", tuple(site or ()), tuple(jump or ()), concurrency
    )
    blobs = BlobFolder(cache or default_cache() / "cluster", cache_mb * _MB)
    security = security_for(address, tls)
    run_async(serve(address, description, security, blobs, str(expanded(str(key))) if key else "", host, say))
