"""Real SSH keys and signatures by ssh-keygen: a helper of the tests beside this file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.conftest import lacking


class Key:
    """An ed25519 key made for a test."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("ssh-keygen") is None:
            lacking("no ssh-keygen on this machine")
        self.name = name
        self._path = folder / name
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self._path)

    @property
    def line(self) -> str:
        """The key as a line of allowed_signers."""
        return f"{self.name}@example {self._path.with_suffix('.pub').read_text()}"

    def sign(self, payload: bytes, namespace: str = "litefleet-release") -> str:
        file = self._path.with_name(f"{self.name}-payload")
        file.write_bytes(payload)
        signature = file.with_name(f"{file.name}.sig")
        if signature.exists():
            signature.unlink()
        run("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self._path, file)
        return signature.read_text()

    def seal(self, seal: dict, namespace: str = "litefleet-release") -> dict:
        return {"seal": seal, "signature": self.sign(canonical(seal), namespace)}


def run(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    assert done.returncode == 0, done.stdout


def canonical(value: dict) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
