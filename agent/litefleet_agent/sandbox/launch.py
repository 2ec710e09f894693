"""Runs a Python script of another interpreter confined: the converter and the reference engines.

A process cannot be confined from outside, and a confined one cannot start a program.  So the other interpreter confines itself
first and then runs the script as `python -I script` does.
"""

import io
import json
import os
import runpy
import subprocess
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .. import ARCHIVE_ROOT
from .confine import confine
from .values import Policy

REPORT = "sandbox.json"  # in the work folder
_MOST_REPORT = 64 << 10  # bytes
_NO_PROGRAM = "no program can start in this sandbox\n"
_LOADER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.sandbox import launch; "
    "del sys.path[0]; launch.main(sys.argv[2:])"
)


class _Refused:
    """Replaces subprocess.Popen where no program can start: behaves as if the program had started and failed.

    PaddlePaddle 2.6.2 runs `ldd --version` when it is imported.  It handles a failing ldd, but not an exception from Popen.
    """

    pid, returncode, stdin = 0, 126, None

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        self.args = args
        self._text = any(options.get(name) for name in ("text", "universal_newlines", "encoding", "errors"))
        self.stdout = io.StringIO() if self._text else io.BytesIO()
        self.stderr = io.StringIO(_NO_PROGRAM) if self._text else io.BytesIO(_NO_PROGRAM.encode("ascii"))

    def __enter__(self) -> "_Refused":
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def communicate(self, *arguments: Any, **options: Any) -> Tuple[Union[bytes, str], Union[bytes, str]]:
        """Return the empty output and the reason as stderr."""
        return self.stdout.read(), self.stderr.read()

    def poll(self) -> int:
        """Return its exit code, as a shell gives it to what cannot be started."""
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Return its exit code."""
        return self.returncode

    def kill(self) -> None:
        """Do nothing: it has already ended."""


def command(python: str, policy: Policy, script: str, arguments: Sequence[str] = ()) -> List[str]:
    """Return the command that runs `script` by the interpreter `python`, confined by `policy`; paths are absolute.

    The script itself is readable.  The confinement is written to the work folder, if the policy has one: see read_report.
    """
    return [python, "-I", "-c", _LOADER, ARCHIVE_ROOT, json.dumps(policy._asdict()), script] + list(arguments)


def main(arguments: Sequence[str]) -> None:
    """Confine this process by the policy (JSON) that comes first and run the script that comes second, with the rest."""
    given: Dict[str, Any] = json.loads(arguments[0])
    script = arguments[1]
    given.update({name: tuple(value) for name, value in given.items() if isinstance(value, list)})
    policy = Policy(**given)
    confined = confine(policy._replace(reads=policy.reads + (script,)))
    if policy.work:
        with open(os.path.join(policy.work, REPORT), "w", encoding="ascii") as stream:
            json.dump(confined.to_dict(), stream)
    if confined.seccomp or confined.landlock_abi:
        subprocess.Popen = _Refused  # type: ignore[assignment,misc]
    sys.argv[:] = arguments[1:]
    runpy.run_path(script, run_name="__main__")


def read_report(work: str) -> Optional[Dict[str, Any]]:
    """Return the confinement that `main` wrote to the work folder; None when it is missing or invalid.

    It was written before the script started, but the script could overwrite it: it is information, not evidence.
    """
    try:
        # Do not follow a link or block on a pipe that the script may have put there.
        opened = os.open(os.path.join(work, REPORT), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as stream:
            report = json.loads(stream.read(_MOST_REPORT).decode("ascii"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
