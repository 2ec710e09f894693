"""Real SSH keys for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import lacking


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair, `path` and `path`.pub, and return the private file."""
    if shutil.which("ssh-keygen") is None:
        lacking("no ssh-keygen on this machine")
    size = ("-b", "2048") if kind == "rsa" else ()
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path
