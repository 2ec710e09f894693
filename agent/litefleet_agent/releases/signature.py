"""Checks SSH signatures with the device's own ssh-keygen.  A signature that cannot be checked is reported as such."""

import enum
import os
import re
import shutil
import subprocess
import tempfile
from typing import IO, List, NamedTuple, Optional, Tuple

from ..formats.checked import shortened

RELEASE = "litefleet-release"  # the namespaces: a signature for one purpose does not count for another
TRUST = "litefleet-trust"
BUNDLE = "litefleet-bundle"

MAX_SIGNATURE = 64 << 10  # characters
_ARMOUR = re.compile(r"-----BEGIN SSH SIGNATURE-----[A-Za-z0-9+/=\s]+-----END SSH SIGNATURE-----\s*\Z")
_FOLDERS = "/usr/bin:/bin:/usr/local/bin:/opt/bin"
_LIMIT_S = 30  # ssh-keygen needs milliseconds; a small board under load may take seconds
_MAX_OUTPUT = 64 << 10  # bytes
_MAX_PRINCIPALS = 16
_TOO_OLD = ("Unsupported operation", "unknown option", "illegal option", "invalid option", "usage:")


class Outcome(enum.Enum):
    """Result of a check."""

    GOOD = "good"
    BAD = "bad"
    UNAVAILABLE = "unavailable"  # this device has no ssh-keygen that checks signatures
    FAILED = "failed"  # ssh-keygen could not be started or did not end in time: never to be taken for a good signature


class Checked(NamedTuple):
    """An outcome, and the reason as the end of a sentence; for GOOD, the signer."""

    outcome: Outcome
    why: str


def find_keygen() -> str:
    """Return the path of this device's ssh-keygen, "" when it has none."""
    return shutil.which("ssh-keygen", path=os.environ.get("PATH", "") + ":" + _FOLDERS) or ""


def check_signature(
    payload: bytes, signature: str, namespace: str, allowed: str, work: str, program: Optional[str] = None
) -> Checked:
    """Check that a signer of the text `allowed` (as ALLOWED SIGNERS of ssh-keygen) signed `payload` for `namespace`.

    `work` is a folder for scratch files; `program` the ssh-keygen to use (None: the device's, "": none).  Raises OSError when
    the scratch files cannot be written.
    """
    if len(signature) > MAX_SIGNATURE or not _ARMOUR.match(signature):
        return Checked(Outcome.BAD, "it is not an armoured SSH signature")
    program = find_keygen() if program is None else program
    if not program:
        return Checked(Outcome.UNAVAILABLE, "this device has no ssh-keygen")
    folder = tempfile.mkdtemp(prefix="signature-", dir=work)
    try:
        for name, data in (("payload", payload), ("sig", signature.encode()), ("allowed", allowed.encode("utf-8"))):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        return _check(_Keygen(program, folder), namespace)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Keygen:
    """ssh-keygen in a private folder that holds `payload`, `sig` and `allowed`."""

    def __init__(self, program: str, folder: str) -> None:
        self._program = program
        self._folder = folder

    def run(self, *args: str) -> Tuple[Optional[int], str, str]:
        """Return the exit code (None: it did not start or did not end in time), stdout and stderr, both bounded."""
        argv = [self._program, "-Y"] + list(args)
        env = {"PATH": _FOLDERS, "LC_ALL": "C", "HOME": self._folder}
        with self._open("payload", "rb") as given, self._open("out", "w+b") as out, self._open("err", "w+b") as err:
            try:
                code: Optional[int] = subprocess.call(
                    argv, stdin=given, stdout=out, stderr=err, env=env, cwd=self._folder, timeout=_LIMIT_S
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return None, "", str(error)
            return code, _text(out), _text(err)

    def _open(self, name: str, mode: str) -> IO[bytes]:
        return open(os.path.join(self._folder, name), mode)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MAX_OUTPUT).decode("utf-8", "replace")


def _check(keygen: _Keygen, namespace: str) -> Checked:
    code, out, err = keygen.run("find-principals", "-s", "sig", "-f", "allowed")
    if code is None:
        return _not_run(err)
    if code and any(mark in err for mark in _TOO_OLD):
        return Checked(Outcome.UNAVAILABLE, "this device's ssh-keygen is too old to check signatures")
    if code < 0:
        return _not_run("it was ended by signal %d" % -code)
    principals = _principals(out) if code == 0 else []
    if not principals:
        return Checked(Outcome.BAD, "its key is not among the trusted signers")
    for principal in principals:
        code, out, err = keygen.run("verify", "-f", "allowed", "-I", principal, "-n", namespace, "-s", "sig")
        if code is None or code < 0:
            return _not_run(err or "it was ended by a signal")
        if code == 0:
            return Checked(Outcome.GOOD, principal)
    messages = err.strip().splitlines() or ["it does not belong to these bytes"]
    return Checked(Outcome.BAD, shortened(messages[0], 200).rstrip("."))


def _not_run(why: str) -> Checked:
    message = "this device's ssh-keygen did not run to its end, so the signature is unchecked (%s); try again"
    return Checked(Outcome.FAILED, message % shortened(why, 200))


def _principals(out: str) -> List[str]:
    """Return the names under which a key may sign: a line may list several, and -I takes one."""
    names = [name for line in out.splitlines() for name in line.strip().split(",") if name]
    return list(dict.fromkeys(names))[:_MAX_PRINCIPALS]
