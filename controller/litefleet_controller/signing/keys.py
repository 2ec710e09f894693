"""The signing key as a file: its public half, and what speaks against using it."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import ConfigError

_TYPE = "ssh-ed25519"
_MAX_KEY = 64 * 1024  # bytes; an ed25519 key has under 1 KiB
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key: its type, its base64 text, and whether the private file needs a passphrase."""

    type: str
    text: str
    locked: bool = False


def private_file(key: Path) -> Path:
    """Return where the private half of `key` is, there or not."""
    return key.with_suffix("") if key.suffix == ".pub" else key


def allowed_line(key: PublicKey) -> str:
    """Return the line of allowed_signers that trusts this key for all that litefleet signs."""
    return f'litefleet namespaces="litefleet-*" {key.type} {key.text}'


def read_key(path: Path) -> PublicKey:
    """Return the public half of the signing key.

    Raises: ConfigError when it is missing, not ed25519, or its private file is open to others.
    """
    text = _text(path)
    key = _from_public(text) if path.suffix == ".pub" else _from_private(text)
    if key is None or key.type != _TYPE:
        problem = f"is a key of the type {key.type}" if key else "is no OpenSSH key file"
        raise ConfigError(
            [
                f"signing.key: {path} {problem}; litefleet signs with ed25519: make one with `ssh-keygen -t ed25519 -f FILE`"
            ]
        )
    _check_mode(private_file(path))
    return key


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY).decode("utf-8", "replace")
    except FileNotFoundError:
        make = f"`ssh-keygen -t ed25519 -f {private_file(path)}` makes one"
        raise ConfigError([f"signing.key: {path} is missing; correct the path, or {make}"]) from None
    except OSError as error:
        raise ConfigError(
            [f"signing.key: {path} cannot be read ({error.strerror}): make it readable for you"]
        ) from None


def _check_mode(private: Path) -> None:
    try:
        mode = private.stat().st_mode & 0o777
    except OSError:
        return  # an SSH agent may hold it
    if mode & 0o077:
        raise ConfigError(
            [f"signing.key: {private} is open to other users (mode {mode:03o}): run `chmod 600 {private}`"]
        )


def _from_public(text: str) -> PublicKey | None:
    """Read "ssh-ed25519 AAAA... comment"."""
    words = text.split()
    if len(words) < 2 or _key_type(_decoded(words[1])) != words[0]:
        return None
    return PublicKey(words[0], words[1])


def _from_private(text: str) -> PublicKey | None:
    """Read the public half that OpenSSH's private format holds in the clear."""
    if " PRIVATE KEY-----" in text and _BEGIN not in text:
        return PublicKey("PEM", "")
    if _BEGIN not in text or _END not in text:
        return None
    data = _decoded(text.split(_BEGIN, 1)[1].split(_END, 1)[0])
    if not data.startswith(_MAGIC):
        return None
    try:
        cipher, rest = _field(data[len(_MAGIC) :])
        for _ in ("kdf", "kdf's options"):
            _, rest = _field(rest)
        public, _ = _field(rest[4:])  # behind the number of keys, always 1
    except struct.error:
        return None
    return PublicKey(_key_type(public), base64.b64encode(public).decode(), cipher != b"none")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _key_type(blob: bytes) -> str:
    try:
        return _field(blob)[0].decode("ascii", "replace")
    except struct.error:
        return ""


def _field(data: bytes) -> tuple[bytes, bytes]:
    """Split off a string with its length before it; struct.error when it is cut."""
    (length,) = struct.unpack(">I", data[:4])
    if length > len(data) - 4:
        raise struct.error("cut")
    return data[4 : 4 + length], data[4 + length :]
