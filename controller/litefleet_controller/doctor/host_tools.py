"""The operator's machine: the cache folder, and the environments for Paddle-Lite and PaddlePaddle.  Nothing is made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import uv

from ..child import run_child
from ..errors import LitefleetError
from ..toolchain import Outlook, Toolchains
from .looked import Looked, fact, joined, trouble, works

__all__ = ["look_at_folder", "look_at_toolchains"]

_MB = 10**6
_PADDLE, _LITE, _BUNDLE = (
    560 * _MB,
    200 * _MB,
    70 * _MB,
)  # measured: environments, and one runtime for one kind of device
_START_S = 20.0


async def look_at_toolchains(version: str, with_paddle: bool, environ: Mapping[str, str] = os.environ) -> Looked:
    """Look at the cache folder and at the environments of Paddle-Lite `version` and, if wanted, PaddlePaddle."""
    tools = Toolchains(environ=environ)
    try:
        outlooks = [await tools.lite_outlook(version)]
    except LitefleetError as error:
        return trouble("LF702", str(error))
    if with_paddle:
        outlooks.append(await tools.paddle_outlook())
    need = sum(_LITE if o.name.startswith("lite") else _PADDLE for o in outlooks if not o.ready)
    need += 0 if _has_bundles(tools.cache) else _BUNDLE
    found = look_at_folder("cache", tools.cache, need, "LITEFLEET_CACHE")
    program = _uv_program()
    found += fact("uv", await _uv_version(program) if program else "not found")
    return found + joined([await _judge(o, program, environ) for o in outlooks])


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
        end = await run_child([program, "--version"], time_limit_s=_START_S)
    except LitefleetError as error:
        return str(error)
    return end.output.strip()[:100] if end.ok else f"does not run: {end.how}"


async def _judge(outlook: Outlook, program: str, environ: Mapping[str, str]) -> Looked:
    name, wanted = _title(outlook), " or ".join(outlook.pythons)
    if outlook.ready:
        return await _judge_ready(outlook)
    if not program:
        return trouble("LF702", f"{name} is not made yet, and the uv program that would make it is missing.")
    again = " (what is there is not whole, and is replaced)" if outlook.begun else ""
    if outlook.interpreter is not None:
        return trouble("LF703", f"{name} is not made yet{again}; {outlook.interpreter} can make it.")
    if _no_downloads(environ):
        return trouble("LF702", f"{name} needs CPython {wanted}: none is here, and uv is told to fetch none.")
    return trouble("LF703", f"{name} is not made yet{again}; no CPython {wanted} is here, uv would have to fetch one.")


async def _judge_ready(outlook: Outlook) -> Looked:
    assert outlook.interpreter is not None
    try:
        end = await run_child([outlook.interpreter, "-I", "-c", "import numpy"], time_limit_s=_START_S)
        said = "" if end.ok else f"{end.how}: {end.last_lines(2)}"
    except LitefleetError as error:
        said = str(error)
    if said:
        return trouble("LF702", f"{outlook.folder} is there, but does not work ({said}). Remove it: it is made anew.")
    return fact(_title(outlook), str(outlook.folder)) + works(f"{_title(outlook)} is ready.")


def _title(outlook: Outlook) -> str:
    """Return "Paddle-Lite 2.13rc0" for the environment lite-2.13rc0."""
    kind, _, version = outlook.name.partition("-")
    return f"{'Paddle-Lite' if kind == 'lite' else 'PaddlePaddle'} {version}"


def _no_downloads(environ: Mapping[str, str]) -> bool:
    offline = environ.get("UV_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return offline or environ.get("UV_PYTHON_DOWNLOADS", "").lower() == "never"


def look_at_folder(label: str, folder: Path, need: int, setting: str) -> Looked:
    """Look whether a folder, there or still to be made, can be written and has room for `need` bytes."""
    there = _nearest(folder)
    if not there.is_dir():
        return trouble("LF704", f"The {label} folder is {folder}, but {there} is not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        return trouble("LF704", f"The {label} folder {folder} can't be written: {there} does not allow it.")
    try:
        free, flags = shutil.disk_usage(there).free, os.statvfs(there).f_flag
    except OSError as error:
        return trouble("LF704", f"The {label} folder {folder} can't be looked at: {error.strerror}.")
    found = fact(label, f"{folder}, {free // _MB} MB free")
    if label == "cache" and flags & os.ST_NOEXEC:
        seen = (
            f"The {label} folder {folder} is mounted noexec: no library in it can be loaded. Name another in {setting}."
        )
        return found + trouble("LF704", seen)
    if free < need:
        seen = f"The {label} folder {folder} has {free // _MB} MB free; about {need // _MB} MB are needed ({setting})."
        return found + trouble("LF704", seen)
    return found + works(f"The {label} folder can be written and has room.")


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest parent that is there."""
    at = folder.absolute()
    while not os.path.lexists(at) and at != at.parent:
        at = at.parent
    return at
