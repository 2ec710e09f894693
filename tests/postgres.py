"""A real PostgreSQL for tests: in a folder of its own, on a UNIX socket only, stopped when the tests are done."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import lacking

_START_S = 60.0


def programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs; the test ends here when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        lacking("no PostgreSQL here (Debian: apt-get install postgresql)")
    return Path(on_path).parent


def _as_user() -> dict[str, str]:
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run a server and yield the URL of its database, without parameters but `host`."""
    binaries = programs()
    folder = Path(tempfile.mkdtemp(prefix="lfpg-"))  # short: a socket's path has 107 bytes at most
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        with (folder.parent / f"{folder.name}.log").open("w+") as log:
            yield from _serve(binaries, folder, log.fileno())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)


def _serve(binaries: Path, folder: Path, log: int) -> Iterator[str]:
    data = str(folder / "data")
    initdb = [
        str(binaries / "initdb"),
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "--no-sync",
    ]
    subprocess.run(initdb, check=True, stdout=log, stderr=log, cwd=folder, **_as_user())  # type: ignore[call-overload]
    server = subprocess.Popen(  # type: ignore[call-overload]
        [str(binaries / "postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=log,
        stderr=log,
        cwd=folder,
        **_as_user(),
    )
    try:
        _wait(binaries, folder, server)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)  # ends at once, whoever is still connected
        server.wait(30)


def _wait(binaries: Path, folder: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    ask = [str(binaries / "pg_isready"), "-q", "-h", str(folder), "-U", "postgres"]
    while subprocess.run(ask, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError((folder.parent / f"{folder.name}.log").read_text()[-3000:])
        time.sleep(0.05)
