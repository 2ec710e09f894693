"""The service beside a bare Paddle-Lite loop: the same model, the same numbers in, the same numbers out.

    python bench/service.py [--quick] [--models cls,det,rec] [--repeats 15] [--json FILE] [--before FOLDER]

All that stands side by side is measured in one run, block by block in turn; the figures are medians over the repeats, printed as
Markdown.  `--before` names the `agent` folder of another checkout, which is measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "agent")]

from tests.agent.support.real_paddlelite import SHAPES  # noqa: E402
from tests.agent.support.service_process import AGENT, Device, Service  # noqa: E402
from tests.conftest import lite_environment, paddle_goldens, raw_nb  # noqa: E402

LOOPS = Path(__file__).with_name("service_loops.py")
REST_S = 0.3  # OpenMP's threads go on spinning for 0.2 s after a run
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SIZES = {"cls": "1,3,48,192;144;96", "det": "1,3,160,320;256;160", "rec": "1,3,48,320;240;160;96"}


@dataclass(frozen=True)
class Case:
    """What is measured side by side: bare processes and, of the service, as many workers."""

    model: str
    workers: int = 1
    threads: int = 1  # of each
    callers: int = 1
    batch: int = 1  # requests that the service may run together, and rows of the bare loop's input


@dataclass(frozen=True)
class Block:
    """What one block came to."""

    runs: int  # rows, where a run has several
    wall: float
    seconds: list[float]
    cpu: dict[str, float]


class EventLoop:
    """One process of service_loops.py."""

    def __init__(self, python: Path, threads: int, *args: object) -> None:
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            [str(python), str(LOOPS), *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True,
        )  # fmt: skip

    def begin(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def end(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a loop ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Side:
    """One of those that stand side by side, with what was measured of it."""

    def __init__(self, name: str, loops: list[EventLoop], pids: dict[str, list[int]], rows: int = 1) -> None:
        self.name, self.loops, self.pids, self._rows = name, loops, pids, rows
        self.blocks: list[Block] = []
        self._runs = 10
        self.rss = 0.0  # of the workers, at the end, in MiB

    def calibrate(self, block_s: float) -> None:
        """Find how many runs of each loop take about so long."""
        self._block(5)
        self._runs = max(5, int(10 * block_s / self._block(10).wall))

    def measure(self) -> None:
        self.blocks.append(self._block(self._runs))

    def _block(self, count: int) -> Block:
        time.sleep(REST_S)
        before = {name: sum(map(cpu_of, some)) for name, some in self.pids.items()}
        begun = time.perf_counter()
        for loop in self.loops:
            loop.begin(count)
        results = [loop.end() for loop in self.loops]
        wall = time.perf_counter() - begun
        cpu = {name: sum(map(cpu_of, some)) - before[name] for name, some in self.pids.items()}
        cpu["loops"] = sum(one["cpu"] for one in results)
        return Block(count * len(results) * self._rows, wall, [s for one in results for s in one["seconds"]], cpu)

    def rate(self) -> float:
        """Runs a second."""
        return statistics.median(b.runs / b.wall for b in self.blocks)

    def ms(self, share: float) -> float:
        """Milliseconds that this share of a block's runs did not exceed."""
        return statistics.median(1e3 * sorted(b.seconds)[int(len(b.seconds) * share)] for b in self.blocks)

    def cpu_ms(self, what: str) -> str:
        """CPU milliseconds of a run: of the loops, the workers, the daemon."""
        return f"{statistics.median(1e3 * b.cpu[what] / b.runs for b in self.blocks):.2f}" if what in self.pids else ""

    def of(self, other: Side) -> str:
        """Return its rate beside the other's in neighbouring blocks: the median, the smallest and the largest."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        each = [(one.runs / one.wall) / (two.runs / two.wall) for one, two in pairs]
        return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_of(pid: int) -> float:
    """Return the resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / (1 << 20)


class Bench:
    """Models, and roots to serve them from."""

    def __init__(self, folder: Path, before: Path | None, repeats: int, block_s: float) -> None:
        self._folder, self._repeats, self._block_s = folder, repeats, block_s
        self.agents = {"before": before, "service": AGENT} if before is not None else {"service": AGENT}
        self._python = lite_environment()
        self._devices: dict[str, Device] = {}

    def _device(self, model: str, by: str) -> Device:
        """Return a root in which a model is current, "" for none."""
        if by + model not in self._devices:
            device = self._devices[by + model] = Device(self._folder / f"{by}-{model}", self._python)
            if model:
                device.activate(device.release(raw_nb(model, "x86"), paddle_goldens(model), model))
        return self._devices[by + model]

    @contextmanager
    def served(self, model: str, by: str = "service", agent: Path = AGENT, **settings: object) -> Iterator[Service]:
        """Serve one model, "" for nothing at all."""
        device = self._device(model, by)
        device.settings(**settings)
        with Service(device, agent=agent) as service:
            service.told("switched" if model else "started")
            if model:
                service.ready(int(str(settings.get("workers", 1))), model)
            yield service

    def _asking(
        self, service: Service, agent: Path, model: str, callers: int, processes: int, sizes: str
    ) -> list[EventLoop]:
        args = ("client", service.device.socket, model, callers // processes, sizes, agent)
        return [EventLoop(self._python, 1, *args) for _ in range(processes)]

    def compare(self, case: Case) -> list[Side]:
        """Measure a bare loop and the service."""
        sizes = ",".join(map(str, SHAPES[case.model]))
        settings = {"workers": case.workers, "threads": case.threads, "max_batch": case.batch}
        with ExitStack() as stack:
            nb = raw_nb(case.model, "x86")
            loops = [EventLoop(self._python, case.threads, "bare", nb, case.batch, sizes) for _ in range(case.workers)]
            sides = [Side("bare", loops, {"loops": []}, case.batch)]
            for by, agent in self.agents.items():
                service = stack.enter_context(self.served(case.model, by, agent, **settings))
                loops = self._asking(service, agent, case.model, case.callers, case.workers, sizes)
                sides.append(Side(by, loops, pids_of(service, case.model)))
            return self._measured(str(case), sides, stack)

    def sizes(self, model: str, kept: tuple[int, ...]) -> list[Side]:
        """Measure the service with a model whose input changes its size each time, kept loaded for one size or several."""
        with ExitStack() as stack:
            sides = []
            for count in kept:
                service = stack.enter_context(self.served(model, f"kept{count}", threads=1, input_sizes=count))
                loops = self._asking(service, AGENT, model, 1, 1, SIZES[model])
                sides.append(Side(str(count), loops, pids_of(service, model)))
            return self._measured(f"{model}, {SIZES[model]}", sides, stack)

    def _measured(self, what: str, sides: list[Side], stack: ExitStack) -> list[Side]:
        for side in sides:
            for loop in side.loops:
                stack.callback(loop.close)
            side.calibrate(self._block_s)
        for _ in range(self._repeats):
            for side in sides:
                side.measure()
        for side in sides:
            side.rss = sum(map(rss_of, side.pids.get("workers", [])))
        say(f"{what}: " + ", ".join(f"{side.name} {side.rate():.1f}/s" for side in sides))
        return sides

    def memory(self, models: list[str]) -> Iterator[list[object]]:
        """Yield what the daemon and its worker hold: with nothing to serve, and with each model."""
        for model in ["", *models]:
            for by, agent in self.agents.items():
                with self.served(model, by, agent) as service:
                    workers = service.model(model)["workers"] if model else []
                    held = [f"{rss_of(worker['pid']):.1f}" for worker in workers]
                    yield [model or "nothing", by, f"{rss_of(service.process.pid):.1f}", *(held or [""])]


def pids_of(service: Service, model: str) -> dict[str, list[int]]:
    workers = [worker["pid"] for worker in service.model(model)["workers"]]
    return {"loops": [], "daemon": [service.process.pid], "workers": workers}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def markdown(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def rows_of(case: Case, sides: list[Side]) -> Iterator[list[object]]:
    """Yield the lines of one case."""
    for side in sides:
        bare = side is sides[0]
        yield [
            case.model, side.name, case.workers, case.threads, "" if bare else case.callers, case.batch,
            f"{side.rate():.1f}", "" if bare else side.of(sides[0]), f"{side.ms(0.5):.2f}", f"{side.ms(0.9):.2f}",
            side.cpu_ms("loops"), side.cpu_ms("workers"), side.cpu_ms("daemon"),
        ]  # fmt: skip


def cases(models: list[str], quick: bool) -> Iterator[Case]:
    """Yield what is compared."""
    for model in models:
        yield Case(model)
        if not quick:
            yield Case(model, threads=2)
            yield Case(model, workers=2, callers=2)
            yield Case(model, workers=2, threads=2, callers=2)
            yield Case(model, callers=8)
            yield Case(model, callers=8, batch=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one worker, one thread, no batches")
    parser.add_argument("--models", default="cls,det,rec")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--block-s", type=float, default=0.8)
    parser.add_argument("--only", choices=("bare", "sizes", "memory"))
    parser.add_argument("--before", type=Path, help="the agent folder of another checkout")
    parser.add_argument("--json", type=Path, help="write every block to this file")
    given = parser.parse_args()
    models, kept = given.models.split(","), []
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        bench = Bench(Path(folder), given.before and given.before.resolve(), given.repeats, given.block_s)
        if given.only in (None, "bare"):
            head = ["model", "by", "workers", "threads", "callers", "batch", "runs/s", "of bare", "p50 ms", "p90 ms"]
            done = [(case, bench.compare(case)) for case in cases(models, given.quick)]
            rows = [row for case, sides in done for row in rows_of(case, sides)]
            print(markdown([*head, "CPU ms a run: loop", "worker", "daemon"], rows))
            kept += [
                (asdict(case), side.name, asdict(b)) for case, sides in done for side in sides for b in side.blocks
            ]
        if given.only in (None, "sizes"):
            rows = []
            for model in models:
                sides = bench.sizes(model, (1, 4))
                for side in sides:
                    cells = [model, SIZES[model], side.name, f"{side.rate():.1f}", side.of(sides[0])]
                    rows.append([*cells, f"{side.ms(0.5):.2f}", f"{side.rss:.0f}"])
            head = ["model", "sizes in turn", "`input_sizes`", "runs/s", "of the first", "p50 ms", "worker MiB"]
            print(markdown(head, rows))
        if given.only in (None, "memory"):
            print(markdown(["serves", "by", "daemon MiB", "worker MiB"], list(bench.memory(models))))
    if given.json:
        given.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
