"""The native engine beside Python's binding: the same wheel, interpreter, model and input, in processes of their own.

    python bench/native.py [--models cls,det,rec] [--blocks 15] [--runs 20] [--whole 5] [--soak 10000] [--json FILE]

Blocks of runs are taken in turn, so that whatever else the machine does meets both.  A run is setting the inputs, running and
copying the outputs; figures are medians over the blocks, printed as Markdown.  `--whole` makes that many proofs with each
engine, and starts that many of the service's workers, in turn: seconds, CPU seconds and peak memory of the process that has the
model.  `--soak` runs the cls model that many times in either, and prints how the memory grew after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "agent")]

from tests.conftest import lite_environment, paddle_goldens, raw_nb  # noqa: E402

KINDS = ("binding", "native")
LOOP = """
import gc, json, sys, time
sys.path.insert(0, sys.argv[1])
kind, runtime, nb, case = sys.argv[2:6]
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import read_npz
if kind == "native":
    from litefleet_agent.verification.native import NativePaddleLite as Engine
else:
    from litefleet_agent.verification.paddlelite import PaddleLite as Engine
with open(nb, "rb") as stream:
    model = read_nb(stream.read())
names = [t.name for t in model.inputs], [t.name for t in model.outputs]
del model
gc.collect()

def status(key):
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(key)) * 1024

engine = Engine(runtime, nb, *names)
before = status("VmRSS:")
begun = time.perf_counter()
engine.import_runtime()
import_ms = (time.perf_counter() - begun) * 1e3
load_ms = engine.load()
held = read_npz(case)
values = {name: held[name] for name in names[0]}
engine.select_predictor(values)
engine.set_inputs(values, check=True)
report = {"import_ms": import_ms, "load_ms": load_ms, "before": before, "loaded": status("VmRSS:")}
print(json.dumps(report), flush=True)
for line in sys.stdin:
    seconds = inside = 0.0
    spent = time.process_time()
    for _ in range(int(line)):
        begun = time.perf_counter()
        engine.set_inputs(values)
        at = time.perf_counter()
        engine.run()
        inside += time.perf_counter() - at
        outputs = engine.outputs()
        seconds += time.perf_counter() - begun
    report = {"ms": seconds * 1e3 / int(line), "run_ms": inside * 1e3 / int(line)}
    report["cpu_ms"] = (time.process_time() - spent) * 1e3 / int(line)
    report.update(rss=status("VmRSS:"), peak=status("VmHWM:"))
    print(json.dumps(report), flush=True)
"""


WHOLE = """
import json, resource, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
what, engine, python, runtime, nb, *goldens = sys.argv[2:]
begun = time.monotonic()
if what == "proof":
    from litefleet_agent.verification.verify import VerifySpec, verify
    spec = VerifySpec.from_dict({"nb": nb, "golden": goldens, "runtime": runtime, "wanted": engine, "threads": 1})
    with tempfile.TemporaryDirectory() as folder:
        result = verify(spec, folder, python=python)
    assert result.findings == [] and result.measurements.engine == engine, result
else:
    from litefleet_agent.formats.nb import read_nb
    from litefleet_agent.service.workers.one_shot import run_one_shot
    from litefleet_agent.service.workers.plan import WorkerPlan, served_model
    with open(nb, "rb") as stream:
        model = served_model(read_nb(stream.read()), "m", "0" * 64)
    run_one_shot(WorkerPlan(model, nb, runtime, tuple(goldens), python=python, wanted=engine, threads=1), [], 60)
seconds = time.monotonic() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}))
"""


def whole(model: str, times: int) -> list[tuple[str, str, float, float, float]]:
    """Return (what, engine, median seconds, CPU seconds and peak bytes) of whole proofs and of starts of a worker."""
    python = lite_environment()
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    rest = [python, site, raw_nb(model, "x86"), *paddle_goldens(model)]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(times):
        for what in ("proof", "worker"):
            for kind in KINDS if number % 2 else reversed(KINDS):
                argv = [sys.executable, "-IS", "-c", WHOLE, ROOT / "agent", what, kind, *rest]
                done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=True)
                found.setdefault((what, kind), []).append(json.loads(done.stdout.splitlines()[-1]))
    keys = ("seconds", "cpu", "peak")
    return [(*names, *(statistics.median(one[key] for one in each) for key in keys)) for names, each in found.items()]


@dataclass
class Loop:
    """One process, and what its blocks came to."""

    process: subprocess.Popen[str]
    start: dict[str, float] = field(default_factory=dict)
    blocks: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def begin(cls, kind: str, model: str) -> Loop:
        """Start one with the wheel's own interpreter and numpy, which the binding needs."""
        python = lite_environment()
        (site,) = python.parent.parent.glob("lib/python*/site-packages")
        argv = [python, "-c", LOOP, ROOT / "agent", kind, site, raw_nb(model, "x86"), paddle_goldens(model)[0]]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [str(part) for part in argv], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        loop = cls(process)
        loop.start = loop.answer()
        return loop

    def answer(self) -> dict[str, float]:
        """Return the next line; what Paddle-Lite prints in between is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the process ended with {self.process.wait()}")

    def block(self, runs: int) -> dict[str, float]:
        """Run that many times."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        self.blocks.append(self.answer())
        return self.blocks[-1]

    def end(self) -> None:
        """Close its input, at which it ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def median(self, key: str) -> float:
        return statistics.median(block[key] for block in self.blocks[1:])


def compare(model: str, blocks: int, runs: int) -> dict[str, object]:
    """Run both in turn; the first block of each warms up."""
    loops = {kind: Loop.begin(kind, model) for kind in KINDS}
    for number in range(blocks + 1):
        for kind in KINDS if number % 2 else reversed(KINDS):
            loops[kind].block(runs)
    found: dict[str, object] = {"model": model}
    for kind, loop in loops.items():
        loop.end()
        found[kind] = {
            **{key: round(loop.start[key], 1) for key in ("import_ms", "load_ms")},
            **{key: round(loop.median(key), 3) for key in ("ms", "run_ms", "cpu_ms")},
            **{key: round(loop.start[key] / 2**20, 1) for key in ("before", "loaded")},
            "peak": round(loop.blocks[-1]["peak"] / 2**20, 1),
        }
    pairs = zip(loops["native"].blocks[1:], loops["binding"].blocks[1:], strict=True)
    ratios = [tuple(n[key] / b[key] for key in ("ms", "run_ms", "cpu_ms")) for n, b in pairs]
    for place, name in enumerate(("ratio", "run_ratio", "cpu_ratio")):
        found[name] = round(statistics.median(r[place] for r in ratios), 3)
    return found


def soak(runs: int) -> dict[str, dict[str, float]]:
    """Run cls again and again in either, and return how its resident memory grew after the first tenth (bytes)."""
    found = {}
    for kind in KINDS:
        loop = Loop.begin(kind, "cls")
        for _ in range(10):
            loop.block(runs // 10)
        loop.end()
        first, last = loop.blocks[0]["rss"], loop.blocks[-1]["rss"]
        found[kind] = {"first": first, "last": last, "bytes_per_run": (last - first) / (runs * 0.9)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="cls,det,rec")
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = [compare(model, given.blocks, given.runs) for model in given.models.split(",")]
    print(
        "| model | engine | import ms | load ms | set+run+get ms | run ms | CPU ms | MiB before | loaded | peak "
        "| ratio (run alone; CPU) |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in found:
        for kind in KINDS:
            figures = one[kind]
            assert isinstance(figures, dict)
            ratio = f"{one['ratio']} ({one['run_ratio']}; {one['cpu_ratio']})" if kind == "native" else ""
            print("| " + " | ".join([str(one["model"]), kind, *map(str, figures.values()), ratio]) + " |")
    if given.whole:
        print("| model | process | engine | seconds | CPU seconds | peak MiB |\n| --- | --- | --- | --- | --- | --- |")
    for model in given.models.split(",") if given.whole else ():
        for what, kind, seconds, cpu, peak in whole(model, given.whole):
            print(f"| {model} | {what} | {kind} | {seconds:.2f} | {cpu:.2f} | {peak / 2**20:.1f} |", flush=True)
    grown = soak(given.soak) if given.soak else {}
    for kind, figures in grown.items():
        print(f"{kind}: {figures['first'] / 2**20:.2f} to {figures['last'] / 2**20:.2f} MiB, "
              f"{figures['bytes_per_run']:.2f} bytes a run over {given.soak} runs")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps({"models": found, "soak": grown}, indent=1))


if __name__ == "__main__":
    main()
