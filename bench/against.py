"""The whole job and the push of this tree beside those of another commit, by ratio: did a change make litefleet slower?

    python -m bench.against [COMMIT] [--devices 10] [--rounds 3]      # the commit before, if none is given; two minutes

Both trees run by turns on the same devices in one run, each with its own project, agent and state. The result is reported: a
slower tree is not an error, as machines that are shared give ratios between 0.8 and 1.3 for one and the same code.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from bench.environments import ROOT, Machine
from bench.fleet import Bench, Figures, Sizes, fetch_source, say

JOBS = ("rollout, full", "rollout, no-op", "push, full", "push, no-op")
FIGURES = {"wall s": "wall", "controller CPU s": "cpu", "devices' CPU s": "device_cpu", "peak MB": "peak_mb"}


def _git(*words: str) -> str:
    ended = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"git {words[0]} failed: {ended.stderr.strip()}. Give a commit that this clone holds.")
    return ended.stdout.strip()


def checkout(commit: str, folder: Path) -> Path:
    """Put the files of a commit into a folder, without touching this tree."""
    whole = _git("rev-parse", "--verify", f"{commit}^{{commit}}")
    tree = folder / "tree"
    tree.mkdir(parents=True)
    archive = subprocess.Popen(["git", "-C", str(ROOT), "archive", whole], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(tree)], stdin=archive.stdout, check=True)
    if archive.wait() or not (tree / "bench" / "push_job.py").exists():
        raise SystemExit(f"{commit} has no bench/push_job.py: its jobs cannot be measured. Give a later commit.")
    return tree


async def measure(base: Path, folder: Path, count: int, rounds: int) -> dict[str, dict[str, list[Figures]]]:
    """Return the figures of each job by tree ("base", "here"), `rounds` of each."""
    lite = await Toolchains().lite()
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, count + 1)]
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        benches = {}
        for name, tree in (("base", base), ("here", ROOT)):
            (folder / name).mkdir(exist_ok=True)
            fetch_source(folder / name)
            benches[name] = Bench(folder / name, fleet, Sizes(count, (), rounds, rounds), tree=tree)
            benches[name].prepare(lite.python.resolve())
            benches[name].wipe(1)  # what another state switched last is refused
            await benches[name].measure("rollout", 1)  # converts, makes the goldens
        found: dict[str, dict[str, list[Figures]]] = {job: {"base": [], "here": []} for job in JOBS}
        for turn in range(rounds):
            for name, bench in sorted(benches.items(), reverse=bool(turn % 2)):
                bench.wipe(count)
                for job in ("rollout, full", "rollout, no-op"):
                    found[job][name].append(await bench.measure("rollout", count))
                bench.unpush(count)
                for job in ("push, full", "push, no-op"):
                    found[job][name].append(await bench.measure("litefleet agent", count))
        return found


def table(found: dict[str, dict[str, list[Figures]]]) -> str:
    """Return the medians of both trees and the median of the ratios of neighbouring runs, as Markdown."""
    lines = [
        "| job | " + " | ".join(f"{name}: base, here, ratio" for name in FIGURES) + " |",
        "|---|" + "---|" * len(FIGURES),
    ]
    for job, trees in found.items():
        cells = []
        for key in FIGURES.values():
            base, here = ([float(figures[key]) for figures in trees[name]] for name in ("base", "here"))
            ratios = [new / old for old, new in zip(base, here, strict=True) if old > 0]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else "–"
            cells.append(f"{statistics.median(base):.2f}, {statistics.median(here):.2f}, **{ratio}**")
        lines.append(f"| {job} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("commit", nargs="?", default="HEAD~1")
    reader.add_argument("--devices", type=int, default=10)
    reader.add_argument("--rounds", type=int, default=3)
    chosen = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as made:
        folder = Path(made)
        base = checkout(chosen.commit, folder)
        machine = Machine.this().text()
        found = asyncio.run(measure(base, folder, chosen.devices, chosen.rounds))
    say(f"{chosen.rounds} rounds on {chosen.devices} devices")
    sys.stdout.write(
        f"{_git('log', '-1', '--format=%h %s', chosen.commit)} beside this tree. {machine}\n\n{table(found)}\n"
    )


if __name__ == "__main__":
    main()
