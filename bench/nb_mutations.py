"""Mutated .nb files: how many `inspect --for` accepts, and what the real Paddle-Lite does with those.

    .venv/bin/python -m bench.nb_mutations FILE.nb ... [--count 400] [--seed 1] [--version 2.13rc0] [--keep FOLDER]

Each mutant is one file with one change in its topology or its parameters' descriptions: a flipped bit, another byte, or a
number replaced by an extreme one.  The accepted mutants run in the toolchain's Paddle-Lite, each in a forked child with
8 s and 4 GiB; the table counts how the children ended.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import struct
import subprocess
import tempfile
from pathlib import Path

from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings.model_file import check_file, verdict
from litefleet_agent.formats.nb import NbError, read_header, read_nb
from litefleet_controller.build.toolchain import Toolchains

EXTREMES = (0, 0xFFFFFFFF, 1, 0x10000, 0x7FFFFFFF, 0x80000000)
HEADER = 26  # bytes before the topology
RUNNER = r"""
import json, os, resource, signal, sys, time
import numpy
from paddlelite.lite import MobileConfig, create_paddle_predictor

def run(path, dims):
    config = MobileConfig()
    config.set_model_from_file(path)
    predictor = create_paddle_predictor(config)
    for index, (shape, dtype) in enumerate(dims):
        predictor.get_input(index).from_numpy(numpy.ones(shape, dtype))
    predictor.run()
    for index in range(len(predictor.get_output_names())):
        predictor.get_output(index).numpy()

ends = []
for path, dims in json.load(open(sys.argv[1])):
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            run(path, dims)
        except BaseException:
            os._exit(1)
        os._exit(0)
    stop, end = time.time() + 8, None
    while time.time() < stop:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            number = status & 127
            end = signal.Signals(number).name if number else "ran" if status == 0 else "exception"
            break
        time.sleep(0.002)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        end = "over 8 s"
    ends.append(end)
print(json.dumps(ends))
"""


def mutants(data: bytes, count: int, seed: int) -> list[bytes]:
    """Return `count` files with one change each in what describes the model; weights stay as they are."""
    chance = random.Random(seed)
    topology = read_header(data).topology_size
    made = []
    for _ in range(count):
        body = bytearray(data)
        end = HEADER + topology + (256 if chance.random() < 0.1 else 0)
        at = chance.randrange(HEADER, min(end, len(body) - 4))
        kind = chance.randrange(3)
        if kind == 0:
            body[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            body[at] = chance.randrange(256)
        else:
            struct.pack_into("<I", body, at & ~3, chance.choice(EXTREMES))
        made.append(bytes(body))
    return made


def accepted(data: bytes, arch: str) -> bool:
    """Whether `inspect --for arch` refuses nothing in the file."""
    try:
        return verdict(check_file(read_nb(data), ARCHES[arch])) == "good"
    except NbError:
        return False


async def main() -> None:
    """Print one table for each file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", default="2.13rc0")
    parser.add_argument("--keep", type=Path, help="folder for the accepted mutants that did not run")
    args = parser.parse_args()
    toolchain = await Toolchains().lite(args.version)
    for file in args.files:
        data = file.read_bytes()
        made = [body for body in mutants(data, args.count, args.seed) if body != data]
        fine = [body for body in made if accepted(body, "x86_64")]
        dims = [([max(1, d) for d in t.dims], t.dtype) for t in read_nb(data).inputs]
        with tempfile.TemporaryDirectory() as name:
            paths = [Path(name) / f"{number}.nb" for number in range(len(fine))]
            for path, body in zip(paths, fine, strict=True):
                path.write_bytes(body)
            request = Path(name) / "request.json"
            request.write_text(json.dumps([[str(path), dims] for path in paths]))
            argv = [str(toolchain.python), "-I", "-c", RUNNER, str(request)]
            ends = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout.splitlines()[-1])
            for path, end in zip(paths, ends, strict=True):
                if args.keep and end not in ("ran", "exception"):
                    args.keep.mkdir(parents=True, exist_ok=True)
                    (args.keep / f"{end}-{path.name}".replace(" ", "-")).write_bytes(path.read_bytes())
        counts = collections.Counter(ends)
        killed = sum(count for end, count in counts.items() if end not in ("ran", "exception"))
        print(f"{file}: {len(made)} mutants, {len(made) - len(fine)} refused, {len(fine)} accepted; of those")
        print(f"  {killed} ({killed / max(1, len(fine)):.0%}) ended the runtime: {dict(counts)}")


if __name__ == "__main__":
    asyncio.run(main())
