"""Raw Paddle-Lite, as a user would drive it, and goldens from PaddlePaddle: helpers of the tests beside this file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.verification.verify import VerifyResult, VerifySpec, verify

SHAPES = {"cls": (1, 3, 48, 192), "det": (1, 3, 320, 320), "rec": (1, 3, 48, 320)}

GOLDEN = """
import sys, numpy as np
from paddle import inference
base, out, *shape = sys.argv[1:]
config = inference.Config(base + ".pdmodel", base + ".pdiparams")
config.disable_glog_info()
config.switch_ir_optim(False)  # 2.6.2 fuses for AVX-512 also where the processor has none
predictor = inference.create_predictor(config)
for seed in (0, 1):
    x = np.random.RandomState(seed).rand(*map(int, shape)).astype("float32")
    predictor.get_input_handle("x").copy_from_cpu(x)
    predictor.run()
    y = {n: predictor.get_output_handle(n).copy_to_cpu() for n in predictor.get_output_names()}
    np.savez("%s%d.npz" % (out, seed), x=x, **y)
"""

RAW = """
import json, sys, numpy as np
from paddlelite.lite import MobileConfig, create_paddle_predictor
nb, dtype, *shape = sys.argv[1:]
config = MobileConfig()
config.set_model_from_file(nb)
predictor = create_paddle_predictor(config)
if shape:
    x = np.random.RandomState(0).rand(*map(int, shape))
    predictor.get_input(0).from_numpy((x * 255 if dtype == "uint8" else x).astype(dtype))
predictor.run()
y = predictor.get_output(0).numpy().astype("float64")
finite = bool(np.isfinite(y).all())
print(json.dumps({"shape": y.shape, "max": float(y.max()), "sum": float(y.sum()), "finite": finite}))
"""


@dataclass(frozen=True)
class Raw:
    """How raw Paddle-Lite ended, and what it answered when it did."""

    code: int
    stderr: str
    shape: tuple[int, ...] = ()
    max: float = 0.0
    sum: float = 0.0
    finite: bool = False


def run_raw(python: Path, nb: Path, shape: tuple[int, ...], dtype: str = "float32") -> Raw:
    argv = [python, "-c", RAW, nb, dtype, *map(str, shape)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return Raw(done.returncode, done.stdout + done.stderr)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Raw(0, done.stderr, tuple(answer["shape"]), answer["max"], answer["sum"], answer["finite"])


def opt(python: Path, **flags: str) -> subprocess.CompletedProcess[str]:
    argv = [str(python.parent / "paddle_lite_opt"), *(f"--{k}={v}" for k, v in flags.items())]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def make_goldens(python: Path, model: Path, name: str, folder: Path) -> list[Path]:
    argv = [python, "-c", GOLDEN, model / "inference", folder / name, *map(str, SHAPES[name])]
    subprocess.run(argv, check=True, capture_output=True, timeout=170)
    return [folder / f"{name}{seed}.npz" for seed in (0, 1)]


def archive_of(python: Path, folder: Path) -> Path:
    """Return an interpreter's Paddle-Lite laid out as an unpacked release archive for x86_64."""
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    top = folder / "inference_lite_lib.x86.linux"
    library = top / "cxx" / "lib"
    library.mkdir(parents=True)
    _link(site / "paddlelite" / "lite.so", library / "libpaddle_full_api_shared.so")
    shutil.copytree(site / "paddlelite" / "libs", library / "libs", copy_function=_link)
    return top


def _link(source: object, to: object) -> None:
    """Give a file another name, or copy it: a confined process may not follow a symbolic link out of its runtime."""
    try:
        os.link(str(source), str(to))
    except OSError:
        shutil.copyfile(str(source), str(to))


Verify = Callable  # (nb, golden, **spec) -> VerifyResult; Python 3.7 takes no subscript here


def verifier(python: Path, work: Path) -> Verify:
    """Return `verify` with this interpreter and a fresh work folder a call."""
    count = iter(range(1000))

    def call(nb: Path, golden: list[Path], **more: object) -> VerifyResult:
        folder = work / f"work{next(count)}"
        folder.mkdir()
        spec = VerifySpec.from_dict({"nb": str(nb), "golden": [str(p) for p in golden], **more})
        return verify(spec, str(folder), python=str(python))

    return call


def codes(result: VerifyResult) -> list[str]:
    return [f.code for f in result.findings]
