"""Checks of the toolchains on the operator's machine, the uv program and the folders that they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import uv
from litefleet_agent.formats.checked import shortened

from ..build.toolchain import Toolchains, ToolchainStatus
from ..common.errors import LitefleetError
from ..common.subprocesses import run_subprocess
from .diagnosis import CheckResult, fact, failed_check, joined, works

_MB = 10**6
# Measured: environments, and one runtime for one kind of device
_PADDLE, _LITE, _BUNDLE = (560 * _MB, 200 * _MB, 70 * _MB)
_START_S = 20.0


async def check_toolchains(version: str, with_paddle: bool, environ: Mapping[str, str] = os.environ) -> CheckResult:
    """Check the cache folder and the environments of Paddle-Lite `version` and, if wanted, PaddlePaddle."""
    tools = Toolchains(environ=environ)
    try:
        statuses = [await tools.lite_status(version)]
    except LitefleetError as error:
        return failed_check("LF702", str(error))
    if with_paddle:
        statuses.append(await tools.paddle_status())
    need = sum(_LITE if o.name.startswith("lite") else _PADDLE for o in statuses if not o.ready)
    need += 0 if _has_bundles(tools.cache) else _BUNDLE
    found = check_folder("cache", tools.cache, need, "LITEFLEET_CACHE")
    program = _uv_program()
    found += fact("uv", await _uv_version(program) if program else "not found")
    return found + joined([await _check_tool(o, program, environ) for o in statuses])


def _has_bundles(cache: Path) -> bool:
    try:
        return any((cache / "bundles").iterdir())
    except OSError:
        return False


def _uv_program() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        return ""


async def _uv_version(program: str) -> str:
    try:
        end = await run_subprocess([program, "--version"], time_limit_s=_START_S)
    except LitefleetError as error:
        return str(error)
    return shortened(end.output.strip(), 100) if end.ok else f"does not run: {end.ending}"


async def _check_tool(status: ToolchainStatus, program: str, environ: Mapping[str, str]) -> CheckResult:
    name, wanted = _title(status), " or ".join(status.pythons)
    if status.ready:
        return await _judge_ready(status)
    if not program:
        return failed_check("LF702", f"{name} is not made yet, and the uv program that makes it is missing.")
    again = " (the existing one is incomplete and will be replaced)" if status.begun else ""
    if status.interpreter is not None:
        return failed_check("LF703", f"{name} is not made yet{again}; {status.interpreter} can make it.")
    if _no_downloads(environ):
        return failed_check(
            "LF702",
            f"{name} needs CPython {wanted}: none is installed, and uv may not download one (UV_OFFLINE or UV_PYTHON_DOWNLOADS).",
        )
    return failed_check(
        "LF703", f"{name} is not made yet{again}; no CPython {wanted} is installed, so uv would download one."
    )


async def _judge_ready(status: ToolchainStatus) -> CheckResult:
    assert status.interpreter is not None
    try:
        end = await run_subprocess([status.interpreter, "-I", "-c", "import numpy"], time_limit_s=_START_S)
        problem = "" if end.ok else f"{end.ending}: {end.last_lines(2)}"
    except LitefleetError as error:
        problem = str(error)
    if problem:
        return failed_check(
            "LF702", f"{status.folder} exists, but does not work ({problem}). Remove it; the next run makes it again."
        )
    return fact(_title(status), str(status.folder)) + works(f"{_title(status)} is ready.")


def _title(status: ToolchainStatus) -> str:
    """Return "Paddle-Lite 2.13rc0" for the environment lite-2.13rc0."""
    kind, _, version = status.name.partition("-")
    return f"{'Paddle-Lite' if kind == 'lite' else 'PaddlePaddle'} {version}"


def _no_downloads(environ: Mapping[str, str]) -> bool:
    offline = environ.get("UV_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return offline or environ.get("UV_PYTHON_DOWNLOADS", "").lower() == "never"


def check_folder(label: str, folder: Path, need: int, setting: str) -> CheckResult:
    """Check that a folder, existing or not yet created, can be written and has `need` bytes free."""
    existing = _nearest(folder)
    if not existing.is_dir():
        return failed_check("LF704", f"The {label} folder is {folder}, but {existing} is not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        return failed_check("LF704", f"The {label} folder {folder} cannot be written: {existing} does not allow it.")
    try:
        free, flags = shutil.disk_usage(existing).free, os.statvfs(existing).f_flag
    except OSError as error:
        return failed_check("LF704", f"The {label} folder {folder} cannot be read: {error.strerror}.")
    found = fact(label, f"{folder}, {free // _MB} MB free")
    if label == "cache" and flags & os.ST_NOEXEC:
        observed = f"The {label} folder {folder} is mounted noexec: no library in it can be loaded. Change {setting}."
        return found + failed_check("LF704", observed)
    if free < need:
        observed = (
            f"The {label} folder {folder} has {free // _MB} MB free; about {need // _MB} MB are needed ({setting})."
        )
        return found + failed_check("LF704", observed)
    return found + works(f"The {label} folder can be written and has enough free space.")


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or its nearest existing parent."""
    at = folder.absolute()
    while not os.path.lexists(at) and at != at.parent:
        at = at.parent
    return at
