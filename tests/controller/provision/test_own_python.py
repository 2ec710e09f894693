"""Which interpreter of a device its service runs in: the one that a session would find, under any of its names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_controller.provision.carry_out import CommandResult
from litefleet_controller.provision.python import python_steps
from litefleet_inventory.model import Device

REAL = f'exec {sys.executable} "$@"'
OLD = "exit 1"  # as Python 3.6 answers the check
NO_CTYPES = f"""case "$*" in *_ctypes*) exit 1;; esac; {REAL}"""


class Local:
    """A device whose programs are the scripts in one folder; commands are run there."""

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        self.path = folder / "bin"
        self.path.mkdir()
        (self.path / "sh").symlink_to(str(shutil.which("sh")))
        # what root runs for user nobody: su -s /bin/sh nobody -c COMMAND
        for name, text in {"su": '[ "$3" = nobody ] && exec sh -c "$5"', "uname": "echo x86_64", **programs}.items():
            (self.path / name).write_text(f"#!{self.path}/sh\n{text}\n")
            (self.path / name).chmod(0o755)

    def run(self, command: str, data: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        done = subprocess.run(
            [str(self.path / "sh"), "-c", command],
            input=data,
            capture_output=True,
            env={**os.environ, "PATH": str(self.path)},
            timeout=time_limit_s,
            check=False,
        )
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("asked", "programs", "expected"),
    [
        ("", {"python3": REAL}, "python3"),
        ("auto", {"python3": OLD, "python3.9": REAL}, "python3.9"),
        ("", {"python3.8": REAL, "python3.12": OLD}, "python3.8"),
        ("", {"python": REAL}, "python"),
        ("", {"python3": NO_CTYPES, "python3.10": REAL}, "python3.10"),
        ("own", {"python3": NO_CTYPES, "python3.7": OLD}, "python3"),
        ("own", {"python3": NO_CTYPES, "python3.11": REAL}, "python3.11"),
        ("", {"python3": NO_CTYPES}, "python3"),  # none serves, none can be brought: the steps say what is missing
        ("/opt/x/python3.9", {"python3": REAL}, "/opt/x/python3.9"),
        ("python3.9", {"python3": REAL, "python3.9": OLD}, "python3.9"),  # named: never replaced
    ],
)
def test_the_services_python_is_the_one_that_a_session_finds(
    tmp_path: Path, asked: str, programs: dict[str, str], expected: str
) -> None:
    device = Device("cam", "127.0.0.1", python=asked)
    assert python_steps(device, Local(tmp_path, programs), None) == (expected, ())
