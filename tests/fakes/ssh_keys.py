"""Real SSH keys for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import lacking


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", bits: int = 0) -> Path:
    """Make a key pair, `path` and `path`.pub, and return the private file."""
    if shutil.which("ssh-keygen") is None:
        lacking("no ssh-keygen on this machine")
    bits = bits or (2048 if kind == "rsa" else 0)
    size = ("-b", str(bits)) if bits else ()
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def sign(authority: Path, public: Path, *options: str) -> None:
    """Write the certificate of a public key beside it, signed by `authority`."""
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "id", *options, str(public)], check=True)


@contextmanager
def ssh_agent(socket: Path) -> Iterator[Path]:
    """Run an SSH agent that holds nothing yet, and yield its socket."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
        yield socket
    finally:
        process.terminate()
        process.wait(10)


def add(*keys: Path) -> None:
    """Give keys to the SSH agent of the environment."""
    subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, stdin=subprocess.DEVNULL)
