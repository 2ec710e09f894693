"""The push that every tool makes, and the measurement of its process.

Standard library only: peers run it in environments of their own. Every tool does the same to each device: connect with the host
key verified (where the tool can), probe (machine, and the file's SHA-256 where it is), push the file where it is missing, compare
its SHA-256, rename it, run python3 and read what it prints, close.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 32
PYTHON_JOB = "python3 -c 'import json,platform; print(json.dumps({\"ok\": platform.machine()}))'"
# The whole job as one command; the file comes on stdin when the answer is "need".
SCRIPT = f"""set -e
uname -m
cd FOLDER
if [ -e pushed.bin ] && [ "$(sha256sum <pushed.bin)" = "SHA  -" ]; then echo have; else
echo need
head -c SIZE >pushed.tmp
[ "$(sha256sum <pushed.tmp)" = "SHA  -" ]
mv pushed.tmp pushed.bin
fi
{PYTHON_JOB}
"""
CHUNK = 256 * 1024


@dataclass(frozen=True)
class Target:
    """Where a device is; `key` is the path of the login's private key, `root` the folder to push into."""

    name: str
    host: str
    port: int
    user: str
    key: str
    root: str


class PushPlan:
    """What fleet.py wrote down: the devices and the file to push."""

    def __init__(self, path: Path) -> None:
        raw = json.loads(path.read_text())
        self.folder = path.parent
        self.targets = [Target(**entry) for entry in raw["devices"]]
        self.payload = Path(raw["payload"])
        self.known_hosts = Path(raw["known_hosts"])
        self.sha256 = hashlib.sha256(self.payload.read_bytes()).hexdigest()
        self.size = self.payload.stat().st_size

    def command(self, root: str) -> str:
        """Return the one compound command for a device's folder."""
        script = SCRIPT.replace("SHA", self.sha256).replace("SIZE", str(self.size)).replace("FOLDER", root)
        return f"exec /bin/sh -c {shlex.quote(script)}"

    def steps(self, root: str) -> tuple[str, str, str]:
        """Return the job as three commands for tools that copy files by their own means: probe, accept what was copied, run."""
        there, coming = f"{root}/pushed.bin", f"{root}/pushed.tmp"
        accept = f"echo '{self.sha256}  {coming}' | sha256sum -c --status && mv {coming} {there}"
        return f"uname -m; sha256sum {there} 2>/dev/null || echo need", accept, PYTHON_JOB


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    """Return the peak of this program, or of its largest child; its own ru_maxrss would begin with that of its parent."""
    status = Path("/proc/self/status").read_text()
    own = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


def measured(job: Callable[[], Mapping[str, object]]) -> None:
    """Run the job and print its figures as one line of JSON: wall and CPU seconds, of children too, and the peak in MB."""
    before, children = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    result = dict(job())
    result |= {
        "wall": time.monotonic() - began,
        "cpu": _cpu(resource.RUSAGE_SELF) - before,
        "children": _cpu(resource.RUSAGE_CHILDREN) - children,
        "peak_mb": _peak_mb(),
    }
    sys.stdout.write(json.dumps(result) + "\n")
