"""The controller's and the agent's memory for a large model: the peak of each step in a process of its own.

    python -m bench.model_memory                     # 1 MB and 203 MB
    python -m bench.model_memory --paddle --mb 203   # also a golden by PaddlePaddle, whose process is counted apart

`self` is the peak of the step's own process beyond that of an empty one with the same imports (VmHWM); `children` the largest
of its child processes (RUSAGE_CHILDREN).  The model is one matrix of random weights; the new version has another graph and
another last fiftieth.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import Store
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.golden.make import run_reference
from litefleet_controller.build.golden.perturb import is_rounded_to_fp16, perturbations
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.devices.delta import delta_request, packed_request

from tests.controller.build.conversion.test_memory import write_model

_COLUMNS = 256


def _make(folder: Path, size: int) -> None:
    """Write the model, and two versions of a file that holds its weights, under their hashes."""
    rows = size // 4 // _COLUMNS
    write_model(folder / "model", rows * _COLUMNS)
    chance = np.random.RandomState(1)
    params = folder / "model" / "inference.pdiparams"
    start = params.stat().st_size - 4 * rows * _COLUMNS
    with params.open("r+b") as file, (folder / "old").open("wb") as old, (folder / "new").open("wb") as new:
        file.seek(start)
        old.write(b"graph" * 4000)
        new.write(b"another graph" * 2000)
        for row in range(rows):
            data = chance.standard_normal(_COLUMNS).astype("<f4").tobytes()
            file.write(data)
            old.write(data)
            new.write(data if row < rows * 49 // 50 else data[::-1])
    for name in ("old", "new"):
        (folder / name).rename(folder / _hash(folder / name))
        (folder / name).write_text(_hash_of(folder))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of(folder: Path) -> str:
    """Return the name of the newest file that is named by its hash."""
    return max((p for p in folder.iterdir() if len(p.name) == 64), key=lambda p: p.stat().st_mtime_ns).name


def _nothing(folder: Path) -> None:
    """Do nothing: what the imports take."""


def _damage(folder: Path) -> None:
    source = load_source(folder / "model")
    for one in perturbations(read_program(source.program), folder / "model" / "inference.pdiparams"):
        one.write(folder / "damaged")


def _fp16(folder: Path) -> None:
    source = load_source(folder / "model")
    with source.params.reader() as reader:
        is_rounded_to_fp16(read_program(source.program), reader)


def _delta(folder: Path) -> None:
    old, new = (folder / "old").read_text(), (folder / "new").read_text()
    hello: dict[str, object] = {"rebuild": ["zlib", "lzma", "near"], "blobs": {old: (folder / old).stat().st_size}}
    request = delta_request(hello, new, folder / new)
    assert request is not None
    body = request.body
    (folder / "body").write_bytes(body.read_bytes() if isinstance(body, Path) else body or b"")
    (folder / "request").write_text(repr(dict(request.fields)))


def _packed(folder: Path) -> None:
    new = (folder / "new").read_text()
    packed_request({"rebuild": ["zlib"]}, new, folder / new)


def _rebuild(folder: Path) -> None:
    """Rebuild the new file as the agent does; its modules alone are 15 MB less than this process."""
    fields = eval((folder / "request").read_text())
    store = Store(str(folder / "device"))
    store.lock()
    for sha in fields["bases"]:
        with (folder / sha).open("rb") as file:
            store.put(sha, (folder / sha).stat().st_size, iter(lambda: file.read(1 << 16), b""))
    with (folder / "body").open("rb") as body:
        rebuild(store, RebuildRequest.from_header(fields), iter(lambda: body.read(1 << 16), b""))


def _paddle(folder: Path) -> None:
    """Run the reference with every damage, as a golden's power is measured; PaddlePaddle is a child process."""
    toolchains = Toolchains()
    rows = (folder / "model" / "inference.pdiparams").stat().st_size // 4 // _COLUMNS
    pair = (folder / "paddle.pdmodel", folder / "paddle.pdiparams")
    python = asyncio.run(toolchains.paddle())
    subprocess.run([python.python, "-c", _SAVES, str(folder / "paddle"), str(rows)], check=True, capture_output=True)
    damaged = []
    for one in perturbations(read_program(load_source(*pair).program), pair[1]):
        damaged.append(folder / f"{one.name}.pdiparams")
        one.write(damaged[-1])
    cases = [{"x": np.ones((1, rows), np.float32)}] * len(damaged)
    asyncio.run(run_reference(pair, cases, toolchains, time_limit_s=600, params=damaged))


_SAVES = f"""
import sys, paddle
paddle.enable_static()
x = paddle.static.data("x", [-1, int(sys.argv[2])])
y = paddle.static.nn.fc(x, {_COLUMNS})
executor = paddle.static.Executor()
executor.run(paddle.static.default_startup_program())
paddle.static.save_inference_model(sys.argv[1], [x], [y], executor)
"""

STEPS: dict[str, Callable[[Path], None]] = {
    "nothing": _nothing,
    "damaged weights": _damage,
    "fp16 check": _fp16,
    "delta": _delta,
    "compressed": _packed,
    "rebuild (agent)": _rebuild,
    "golden by PaddlePaddle": _paddle,
}


def _measured(step: str, folder: Path) -> tuple[float, float]:
    """Return the peak of the step's process and of the largest of its children, MB."""
    again = [sys.executable, "-m", "bench.model_memory", "--step", step, "--folder", str(folder)]
    done = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
    own, children = done.stdout.split()[-2:]
    return int(own) / 1e3, int(children) / 1e3


def main() -> None:
    """Print a table: the steps, and for each size the two peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[1, 203])
    parser.add_argument("--paddle", action="store_true")
    parser.add_argument("--step", default="")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.step:
        STEPS[args.step](args.folder)
        status = Path("/proc/self/status").read_text().splitlines()
        own = next(line.split()[1] for line in status if line.startswith("VmHWM"))
        print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        return
    print("| model | step | self, MB | children, MB |\n|---|---|---:|---:|")
    for size in args.mb:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            _make(Path(name), size << 20)
            base = _measured("nothing", Path(name))[0]
            for step in list(STEPS)[1 : None if args.paddle else -1]:
                own, children = _measured(step, Path(name))
                print(f"| {size} MB | {step} | {own - base:.0f} | {children:.0f} |", flush=True)


if __name__ == "__main__":
    main()
