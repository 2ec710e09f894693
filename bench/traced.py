"""Which processes one confirmed rollout starts on a device, and how often it syncs: a trace of a real sshd and all below it.

    python -m bench.traced               # PYTHONPATH=agent:inventory:controller:., a minute; needs strace

The device has the agent, an earlier release and its runtime; the rollout brings another release of the same model.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bench.fleet import Bench, Sizes, fetch_source, with_fleet

TRACED = "execve,clone,clone3,fork,vfork,fsync,fdatasync"
_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed)(.*)$")
_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"')
# What a Python is started for, by the first text of its command line that fits.
KINDS = {
    "LFBOOT": "session",
    "NONCE": "session",
    "lease_keeper": "lease process",  # of earlier agents; it is a copy of the session by now
    "verification import runner": "proof",
    "sandbox import launch": "proof",
    "worker": "worker",
}


class Trace(NamedTuple):
    """What the trace shows."""

    programs: Counter[str]  # started by execve
    copies: Counter[str]  # processes that start no program of their own, by what they are copies of
    syncs: Counter[str]  # by the path that was synced


def kind_of(call: str) -> str:
    """Return what a process is, by the arguments of its execve."""
    arguments = _ARGUMENT.findall(call.rpartition("], 0x")[0])[1:]
    name = arguments[0].rpartition("/")[2] if arguments else "?"
    if not name.startswith("python"):
        return name
    line = " ".join(arguments)
    return "python: " + next((kind for sign, kind in KINDS.items() if sign in line), line[:150])


class _Reader:
    """Follows processes through strace's output, a line at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._kinds: dict[str, str] = {}  # by process id
        self._copies: dict[str, str] = {}  # likewise, until it starts a program
        self._begun: dict[str, str] = {}  # calls that have not returned, by process id
        self._programs: Counter[str] = Counter()
        self._syncs: Counter[str] = Counter()

    def line(self, text: str) -> None:
        """Read one line."""
        call = _CALL.match(text)
        if call is None:
            return
        number, name, rest = call.groups()
        if "unfinished" in rest:
            self._begun[number] = rest
            return
        rest = self._begun.pop(number, "") + rest
        if name == "execve" and rest.endswith(" = 0"):
            self._copies.pop(number, None)
            self._kinds[number] = kind_of(rest)
            self._programs[self._kinds[number]] += 1
        elif name in ("fsync", "fdatasync"):
            path = rest.partition("<")[2].partition(">")[0].replace(self._root + "/", "")
            path = re.sub(r"[0-9a-f]{64}", "<sha256>", re.sub(r"\.tmp-(.*?)(-\d+-[0-9a-f]{12})?$", r"\1", path))
            self._syncs[path] += 1
        elif name in ("clone", "clone3", "fork", "vfork") and "CLONE_THREAD" not in rest:
            child = rest.rpartition("= ")[2]
            if child in self._kinds:  # it has started its program before this call returned
                return
            self._kinds[child] = self._copies[child] = self._kinds.get(number, "sshd")

    def result(self) -> Trace:
        """Return what the lines showed."""
        return Trace(self._programs, Counter(self._copies.values()), self._syncs)


def parse(text: str, root: str) -> Trace:
    """Read strace's output."""
    reader = _Reader(root)
    for line in text.splitlines():
        reader.line(line)
    return reader.result()


async def trace(bench: Bench) -> Trace:
    """Return the trace of a rollout of another release."""
    config = bench.folder / "system.yaml"
    await bench.measure("rollout", 1)
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    device, out = bench.devices[0], bench.folder / "trace"
    argv = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={TRACED}", "-o", str(out), "-p", str(device.process.pid)]
    tracer = subprocess.Popen(argv, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    await asyncio.to_thread(tracer.stderr.readline)  # "attached"
    await bench.measure("rollout", 1)
    await asyncio.sleep(7)  # the lease process looks every 5 s
    tracer.terminate()
    await asyncio.to_thread(tracer.wait)
    return parse(out.read_text(), str(device.root))


def main() -> None:
    """Trace and print."""
    found: list[Trace] = []

    async def work(bench: Bench) -> None:
        found.append(await trace(bench))

    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        fetch_source(Path(folder))
        asyncio.run(with_fleet(Path(folder), Sizes(1, (1,), 1, 1), False, work))
    (result,) = found
    print("| started on the device | times |\n| --- | ---: |")
    for name, count in result.programs.most_common():
        print(f"| {name} | {count} |")
    for name, count in result.copies.most_common():
        print(f"| a copy of {name} | {count} |")
    print()
    print("| synced | times |\n| --- | ---: |")
    for name, count in sorted(result.syncs.items()):
        print(f"| {name} | {count} |")
    print(f"| together | {sum(result.syncs.values())} |")


if __name__ == "__main__":
    main()
