"""SSH signatures by ssh-keygen: made with a key, checked against the trusted signers.  Nothing secret passes through here."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from ..common.errors import LitefleetError
from ..common.subprocesses import SubprocessEnd, run_subprocess

MAX_SIGNATURE = 16 * 1024  # characters; one of ed25519 has about 300
_ARMORED = re.compile(r"-----BEGIN SSH SIGNATURE-----\s[A-Za-z0-9+/=\s]+-----END SSH SIGNATURE-----")
_LIMIT_S = 30.0  # an agent may ask its user to confirm
_MAX_PRINCIPALS = 16


class SigningError(LitefleetError):
    """A signature cannot be made or checked; the text says why and what to do."""


async def sign(key: Path, data: bytes, namespace: str) -> str:
    """Return the armored signature of `data` by `key`, or by the SSH agent that holds it.

    Raises: SigningError with ssh-keygen's own words.
    """
    with _Folder() as folder:
        end = await _ssh_keygen(folder, data, "sign", "-f", key, "-n", namespace)
    found = _ARMORED.search(end.output)
    if not end.ok or found is None:
        raise SigningError(end.last_lines() or end.ending)
    return found.group(0) + "\n"


async def signer_of(allowed_signers: Path, data: bytes, signature: str, namespace: str) -> str:
    """Return the trusted signer that made this signature of `data`, "" for none.

    Raises: SigningError when ssh-keygen cannot do its work.
    """
    if not os.access(allowed_signers, os.R_OK):
        raise SigningError(f"{allowed_signers}, the list of trusted signers, is missing or cannot be read.")
    if len(signature) > MAX_SIGNATURE or _ARMORED.fullmatch(signature.strip()) is None:
        return ""
    with _Folder() as folder:
        written = folder / "signature"
        written.write_text(signature.strip() + "\n")
        found = await _ssh_keygen(folder, b"", "find-principals", "-f", allowed_signers, "-s", written)
        for principal in _principals(found):
            checked = ("-f", allowed_signers, "-I", principal, "-n", namespace, "-s", written)
            if (await _ssh_keygen(folder, data, "verify", *checked)).ok:
                return principal
    return ""


def _principals(found: SubprocessEnd) -> list[str]:
    """Return the names that a key may sign as: old versions print several on a line, and -I takes one."""
    names = [name for line in found.output.splitlines() for name in line.strip().split(",") if name]
    return names[:_MAX_PRINCIPALS] if found.ok else []


class _Folder(tempfile.TemporaryDirectory[str]):
    """A private scratch folder, as a Path."""

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


async def _ssh_keygen(folder: Path, data: bytes, operation: str, *arguments: str | Path) -> SubprocessEnd:
    given = folder / "data"
    given.write_bytes(data)
    try:
        end = await run_subprocess(
            ["ssh-keygen", "-Y", operation, *arguments], time_limit_s=_LIMIT_S, env=_environment(), stdin=given
        )
    except LitefleetError as error:
        raise SigningError(f"{error} Install the OpenSSH client tools (8.2 or later).") from error
    if re.search(r"(unknown|illegal|invalid) option -- '?Y|Unsupported operation for -Y", end.output):
        raise SigningError("ssh-keygen on this machine is too old to sign: OpenSSH 8.2 or later is needed.")
    if end.timed_out:
        raise SigningError(
            f"ssh-keygen did not finish within {_LIMIT_S:.0f} s: check whether the SSH agent waits for a confirmation."
        )
    return end


def _environment() -> dict[str, str]:
    """What ssh-keygen needs of ours; it must never ask for a passphrase in a window."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SSH_AUTH_SOCK") if name in os.environ}
    return {**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
