"""How far may a right model of reduced precision be from its reference?  Measured, for the default tolerances.

    python bench/precisions.py                  # twelve models; five minutes
    python bench/precisions.py shapes cls       # these only

For each model eight real inputs (see weight_mutations.py) are run by PaddlePaddle, and by

- fp32, int16 and int8: Paddle-Lite for x86_64 with the converter's own weights of that precision, on each of its versions;
- fp16 and int8-weights: PaddlePaddle with weights rounded to fp16, or to 8 bits per channel.

The published x86 engine has no fp16 kernels, and no int8 activations: what they add is reasoned in `compare.py`.  A row with
a relative error of more than 0.5 is an engine that computes the precision wrongly, which the verdict must say.
Columns: relative error (root mean square of the difference, of the reference), largest and mean difference in shares of the
reference's largest value, cosine, and the largest distance in default tolerances (at most 1 passes).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from litefleet_agent.verification.comparison import compare_outputs  # noqa: E402
from litefleet_controller.build.artifacts import ArtifactStore  # noqa: E402
from litefleet_controller.build.conversion.convert import convert  # noqa: E402
from litefleet_controller.build.conversion.preflight import load_source  # noqa: E402
from litefleet_controller.build.conversion.program import read_program  # noqa: E402
from litefleet_controller.build.conversion.variant import make_variant  # noqa: E402
from litefleet_controller.build.golden.make import run_reference  # noqa: E402
from litefleet_controller.build.golden.perturb import perturbations  # noqa: E402
from litefleet_controller.common.errors import LitefleetError  # noqa: E402

from bench.weight_mutations import MODELS, Answer, Model, model, wire  # noqa: E402
from tests.controller.build.golden_power.test_real import Toolchains as Paddle  # noqa: E402
from tests.zoo.test_zoo import Toolchains as Lite  # noqa: E402


class Toolchains(Lite, Paddle):
    """Paddle-Lite's environments and PaddlePaddle's."""


VERSIONS = ("2.13rc0", "2.12")
QUANT = {"fp32": {}, "int16": {"quant": "int16"}, "int8": {"quant": "int8"}}


async def study(one: Model, folder: Path) -> list[str]:
    """Return a row for each engine, precision and output."""
    source, toolchains = load_source(one.program, one.params), Toolchains()
    given = list(one.real)
    _, right = await run_reference((one.program, one.params), given, toolchains)
    rows = []
    program = read_program(source.program)
    for way in perturbations(program, one.params.read_bytes(), None, (0, 0)):
        if way.name in ("fp16", "int8"):
            path = folder / f"{way.name}.pdiparams"
            path.write_bytes(way.params)
            files = [path] * len(given)
            _, got = await run_reference((one.program, one.params), given, toolchains, params=files)
            rows += compared(one, f"Paddle {way.name} weights", way.name, right, got)
    for version in VERSIONS:
        for precision, how in QUANT.items():
            try:
                variant = make_variant(source.sha256, "x86", opt_version=version, **how)  # type: ignore[arg-type]
                made = await convert(source, variant, toolchains, ArtifactStore(folder / "store"))
                _, got = await run_reference([made.path], given, toolchains, version)
            except LitefleetError as error:
                rows.append(f"| {one.name} | Lite {version} | {precision} | {str(error)[:90]} |")
                continue
            named = [dict(zip(want, have.values(), strict=True)) for want, have in zip(right, got, strict=True)]
            rows += compared(one, f"Lite {version}", precision, right, named)
    return rows


def compared(one: Model, engine: str, precision: str, right: Sequence[Answer], got: Sequence[Answer]) -> list[str]:
    specs = {meaning.name: meaning.spec for meaning in one.meanings}
    rows = []
    for name, spec in specs.items():
        relative, largest, mean, cosine, distance, why = 0.0, 0.0, 0.0, 1.0, 0.0, ""
        for want, have in zip(right, got, strict=True):
            found = compare_outputs(wire(want), wire(have), specs, precision)[name]
            if found.distance >= distance:
                distance, why = found.distance, found.reason
            if want[name].shape != have[name].shape or not want[name].size:
                continue
            a, b = want[name].astype("f8").ravel(), have[name].astype("f8").ravel()
            off, peak = np.abs(b - a), float(np.abs(a).max()) or 1.0
            relative = max(relative, float(np.linalg.norm(b - a) / (np.linalg.norm(a) or 1.0)))
            largest, mean = max(largest, float(off.max()) / peak), max(mean, float(off.mean()) / peak)
            size = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosine = min(cosine, float(a @ b) / size if size else 0.0)
        figures = f"{relative:.2g} | {largest:.2g} | {mean:.2g} | {cosine:.5f} | {distance:.3g} | {why}"
        rows.append(
            f"| {one.name} {name[:20]} {list(right[0][name].shape)} | {spec.kind} | {engine} | {precision} | {figures} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=", ".join(MODELS))
    print("| model | kind | engine | precision | relative | largest | mean | cosine | distance | why rejected |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory(prefix="litefleet-precisions-") as folder:
            print("\n".join(asyncio.run(study(model(name), Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
