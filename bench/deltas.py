"""Bytes and seconds of a new .nb for a device that holds an old one: litefleet's steps, zstd, bsdiff, rsync.

    .venv/bin/python -m bench.deltas OLD.nb NEW.nb [OLD.nb NEW.nb ...]

Besides each pair, NEW is OLD with another last layer (its last 5 % of bytes as other float32 values of the same magnitudes), and
a file without any relation (so all of its weights).  Seconds are CPU seconds: of the sender to make the difference, of the
receiver to apply it.  Tools that are missing get no row.  What each tool made is applied and compared before its row counts.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import Store
from litefleet_controller.devices.delta import make_delta


class Row(NamedTuple):
    """One tool's figures for one pair."""

    tool: str
    size: int  # bytes
    make_s: float
    apply_s: float


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*argv: object) -> float:
    before = _children_s()
    subprocess.run([str(word) for word in argv], check=True, capture_output=True)
    return _children_s() - before


def _litefleet(old: Path, new: Path, folder: Path) -> Row:
    data, base = new.read_bytes(), old.read_bytes()
    start = time.process_time()
    delta = make_delta(data, {sha256(base).hexdigest(): base})
    made = time.process_time() - start
    if delta is None:
        return Row("litefleet (whole file)", len(data), made, 0.0)
    store = Store(str(folder / "store"))
    store.lock()
    store.put(delta.bases[0], len(base), [base])
    body = delta.body.read_bytes() if isinstance(delta.body, Path) else delta.body
    request = delta.request(sha256(data).hexdigest(), len(data))
    start = time.process_time()
    rebuild(store, RebuildRequest.from_header(dict(request.fields)), [body])
    applied = time.process_time() - start
    shutil.copyfile(store.blob(sha256(data).hexdigest()), folder / "result")
    return Row("litefleet", delta.size, made, applied)


def _zstd(old: Path, new: Path, folder: Path) -> Row:
    patch = folder / "patch.zst"
    made = _run("zstd", "-19", "-q", "--long=27", f"--patch-from={old}", new, "-o", patch)
    applied = _run("zstd", "-d", "-q", "--long=27", f"--patch-from={old}", patch, "-o", folder / "result")
    return Row("zstd -19 --patch-from", patch.stat().st_size, made, applied)


def _bsdiff(old: Path, new: Path, folder: Path) -> Row:
    patch = folder / "patch"
    made = _run("bsdiff", old, new, patch)
    return Row("bsdiff", patch.stat().st_size, made, _run("bspatch", old, folder / "result", patch))


def _rsync(old: Path, new: Path, folder: Path) -> Row:
    shutil.copyfile(old, folder / "result")
    before = _children_s()
    words = [
        "rsync",
        "-z",
        "--no-whole-file",
        "--inplace",
        "--ignore-times",
        "--stats",
        str(new),
        str(folder / "result"),
    ]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    both = [line.split(":")[1] for line in done.stdout.splitlines() if line.startswith("Total bytes ")]
    return Row("rsync -z", sum(int(count.replace(",", "")) for count in both), _children_s() - before, 0.0)


TOOLS: dict[str, Callable[[Path, Path, Path], Row]] = {
    "python": _litefleet,
    "zstd": _zstd,
    "bsdiff": _bsdiff,
    "rsync": _rsync,
}


def _shuffled(data: bytes, start: int) -> bytes:
    """Return the bytes with their float32 values from `start` on in another order and with other low bits, as after training."""
    start -= start % 4
    end = len(data) - len(data) % 4
    chance = random.Random(1)
    high = [data[i + 2 : i + 4] for i in range(start, end, 4)]
    chance.shuffle(high)
    return data[:start] + b"".join(chance.randbytes(2) + value for value in high) + data[end:]


def _compare(title: str, old: Path, new: Path) -> None:
    rows = []
    for program, measure in TOOLS.items():
        if program != "python" and shutil.which(program) is None:
            print(f"({program} is missing)", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(old, new, Path(folder))
            result = Path(folder) / "result"
            assert not result.exists() or result.read_bytes() == new.read_bytes(), program
            rows.append(row)
    whole, best = new.stat().st_size, min(row.size for row in rows)
    print(f"\n{title}: {whole:,} bytes\n")
    print("| tool | bytes | of the file | of the best | make, s | apply, s |\n|---|---|---|---|---|---|")
    for row in rows:
        share, ratio = row.size / whole, row.size / best
        print(f"| {row.tool} | {row.size:,} | {share:.2%} | {ratio:.2f} | {row.make_s:.2f} | {row.apply_s:.2f} |")


def main() -> None:
    """Print a table for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    for old, new in zip(files[::2], files[1::2], strict=True):
        _compare(f"{old.parent.name} to {new.parent.name}", old, new)
    data = files[0].read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for title, start in (("another last layer", len(data) * 19 // 20), ("no relation", len(data) // 20)):
            other = Path(folder) / "new.nb"
            other.write_bytes(_shuffled(data, start))
            _compare(f"{files[0].parent.name}, {title}", files[0], other)


if __name__ == "__main__":
    main()
