"""Small Debian packages and a signed mirror of them, made for tests."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Mirror", "ar", "deb"]


def ar(members: Mapping[str, bytes]) -> bytes:
    """Return an ar archive."""
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return b"".join(parts)


def deb(files: Mapping[str, bytes | str], suffix: str = "xz") -> bytes:
    """Return a .deb of these files; a text is the target of a symbolic link."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.mode = 0o755
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    data = lzma.compress(plain.getvalue()) if suffix == "xz" else plain.getvalue()
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": b"", f"data.tar.{suffix}" if suffix else "data.tar": data})


@dataclass
class Mirror:
    """A mirror in a folder, its index signed with a key of its own."""

    folder: Path
    paragraphs: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its file URL."""
        return self.folder.as_uri()

    @property
    def keyring(self) -> Path:
        """The public key, as a keyring for gpgv."""
        return self.folder.parent / "keyring.gpg"

    def add(
        self, name: str, data: bytes, version: str = "1.0-1", depends: str = "", architecture: str = "arm64"
    ) -> None:
        """Add a package."""
        path = f"pool/{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        text = (
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nFilename: {path}\nSize: {len(data)}\n"
        )
        self.paragraphs.append(f"{text}SHA256: {sha256}\nDepends: {depends}\n")

    def sign(self, valid_until: str = "") -> None:
        """Write the index and sign it."""
        suite = self.folder / "dists/bookworm"
        index = suite / "main/binary-arm64/Packages.xz"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes(lzma.compress("\n".join(self.paragraphs).encode()))
        data = index.read_bytes()
        text = "Origin: Test\n" + (f"Valid-Until: {valid_until}\n" if valid_until else "")
        text += f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-arm64/Packages.xz\n"
        (suite / "InRelease").unlink(missing_ok=True)
        self._gpg("--clearsign", "--output", str(suite / "InRelease"), data=text.encode())
        if not self.keyring.exists():
            self._gpg("--export", "--output", str(self.keyring))

    def _gpg(self, *arguments: str, data: bytes = b"") -> None:
        home = self.folder.parent / "gnupg"
        argv = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        if not home.exists():
            home.mkdir(mode=0o700)
            subprocess.run([*argv, "--quick-generate-key", "test", "ed25519", "sign"], check=True, capture_output=True)
        subprocess.run([*argv, *arguments], input=data, check=True, capture_output=True)

    def close(self) -> None:
        """End gpg's agent."""
        home = str(self.folder.parent / "gnupg")
        if shutil.which("gpgconf"):
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, env={**os.environ})
