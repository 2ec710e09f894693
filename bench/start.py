"""How much a session's first answer costs a device: the production command, loader and agent on this machine, without SSH.

    python bench/start.py                       # PYTHONPATH=agent:inventory:controller
    python bench/start.py --rounds 50 PYTHON... # interpreters; default: pyenv's 3.7, 3.11 and 3.13
    python bench/start.py --under "qemu-arm64 -L ROOT" PYTHON

One round starts `PYTHON -I -S -c pass` and then a session with the agent in place, `sh` included.
CPU is that of the session's whole process tree until it has ended; wall is until the answer's first byte.  Medians.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.protocol import encode
from litefleet_controller.devices import bootstrap
from litefleet_controller.devices.agent_archive import agent_archive

NONCE = "0" * 16
HELLO = encode({"id": 1, "op": "hello"})
SETTLED_S = 3.5  # files that are younger are not trusted to stay as they are


class Cost(NamedTuple):
    """CPU and wall in ms."""

    cpu: float
    wall: float


def cost(argv: list[str], sent: bytes = b"", until: bytes = b"") -> Cost:
    """Run a program and return what it cost; wall is until `until` has come, or until its end."""
    begin = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(sent)
    process.stdin.flush()
    output = b""
    while until not in output and (piece := os.read(process.stdout.fileno(), 65536)):
        output += piece
    if until and until not in output:
        raise SystemExit(f"{argv[:3]} said {output[:300]!r}")
    wall = time.perf_counter() - begin
    process.stdin.close()
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = wall if until else time.perf_counter() - begin
    return Cost((used.ru_utime + used.ru_stime) * 1e3, wall * 1e3)


class Device:
    """A folder with the agent, which a first session has brought there."""

    def __init__(self, python: str, under: list[str]) -> None:
        archive = agent_archive()
        self.root = tempfile.mkdtemp(prefix="litefleet-start-", dir=Path.home())
        self._under = under
        self._python = python
        self.plain = [*under, python, "-I", "-S", "-c", "pass"]
        if under:  # the shell script runs the interpreter by its name
            python = f"{self.root}/python"
            Path(python).write_text(f'#!/bin/sh\nexec {shlex.join([*under, self._python])} "$@"\n')
            Path(python).chmod(0o700)
        self._loader = bootstrap.loader(NONCE, archive.sha256, len(archive.data), len(HELLO), f"{self.root}/root")
        self._argv = ["sh", "-c", bootstrap.command(NONCE, len(self._loader), python)]
        cost(self._argv, self._loader + HELLO + bootstrap.KEEPER + archive.data, b"LFF1")

    def session(self) -> Cost:
        """Return what a session costs."""
        return cost(self._argv, self._loader + HELLO, b" have\nLFF1")


def pythons() -> list[str]:
    """Return pyenv's interpreters that the issue of a slow start is about."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [
        str(max(versions.glob(f"{v}.*")) / "bin" / "python")
        for v in ("3.7", "3.11", "3.13")
        if any(versions.glob(f"{v}.*"))
    ]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pythons", nargs="*", default=pythons(), metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--under", default="", help="what the interpreters run under, such as an emulator")
    args = parser.parse_args()
    devices = {python: Device(python, shlex.split(args.under)) for python in args.pythons}
    try:
        for device in devices.values():
            device.session()
        time.sleep(SETTLED_S)
        for device in devices.values():
            device.session()
        rounds = [{p: (cost(d.plain), d.session()) for p, d in devices.items()} for _ in range(args.rounds)]
    finally:
        for device in devices.values():
            shutil.rmtree(device.root)
    print("| Python | `-I -S -c pass` CPU ms | wall ms | first answer CPU ms | wall ms | CPU ratio | wall ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for python in devices:
        plain, session = (
            Cost(*map(statistics.median, zip(*(one[python][n] for one in rounds), strict=True))) for n in (0, 1)
        )
        version = subprocess.run(
            [*shlex.split(args.under), python, "-V"], capture_output=True, text=True, check=True
        ).stdout
        ratios = f"{session.cpu / plain.cpu:.2f} | {session.wall / plain.wall:.2f}"
        print(
            f"| {version.split()[-1]} | {plain.cpu:.1f} | {plain.wall:.1f} | {session.cpu:.1f} | {session.wall:.1f} | {ratios} |"
        )


if __name__ == "__main__":
    main()
