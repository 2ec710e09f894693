"""Isolated environments for Paddle-Lite's converter and for PaddlePaddle, made with uv on first use and cached.

Where no CPython is at hand that Paddle-Lite's wheels were built for, litefleet's own one makes the environment: the wheel is
unpacked there, and `foreign_opt.py` takes the place of the converter's script, which needs the wheel's binding.

uv rejects a file whose SHA-256 is not the one in pinned.txt, which `tools/make_pins.py` writes from the package index.  A
version that is not in it is installed without a sum.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import uv

from ..common.errors import FolderError, LitefleetError, ToolchainError
from ..common.files import foreign_writers, locked, make_private_folder
from ..common.subprocesses import SubprocessEnd, run_subprocess
from ..config.choices import DEFAULT_PADDLELITE, PUBLISHED_PYTHONS


class Paddle(NamedTuple):
    """A PaddlePaddle that serves as reference engine, and the CPythons that its wheels are for, preferred ones first."""

    version: str
    pythons: tuple[str, ...]
    packages: tuple[str, ...]


# The second is for machines that have a newer CPython only; of the three PP-OCR models both gave the same bytes.
PADDLES = (
    # PaddlePaddle 2.x imports pkg_resources, which setuptools dropped in 81.
    Paddle("2.6.2", ("3.10", "3.11", "3.12", "3.9", "3.8"), ("paddlepaddle==2.6.2", "numpy<2", "setuptools<81")),
    Paddle("3.3.1", ("3.13",), ("paddlepaddle==3.3.1", "numpy>=2", "setuptools<81")),
)
_DESCRIBE = (
    "import platform,struct,sys;"
    "print(platform.python_implementation(),'%d.%d'%sys.version_info[:2],struct.calcsize('P')*8,platform.machine())"
)
_BUILD_LIMIT_S = 1800.0
PINNED = Path(__file__).with_name("pinned.txt")
_NUMPY_1 = "numpy<2"
_FOREIGN_OPT = Path(__file__).parent / "conversion" / "foreign_opt.py"
_PADDLELITE = "paddlelite=="
_OPT = "paddle_lite_opt"  # the converter's script in an environment
_LAST_NUMPY_1 = (3, 12)  # the newest CPython with wheels of it


@dataclass(frozen=True)
class Toolchain:
    """One ready environment; `opt` is the converter's script, run with `python` (Paddle-Lite only)."""

    version: str
    python: Path
    opt: Path


@dataclass(frozen=True)
class ToolchainStatus:
    """The state of an environment, found without making it."""

    name: str  # "lite-2.13rc0"
    folder: Path
    pythons: tuple[str, ...]  # CPythons that it can be made with, the preferred one first
    ready: bool
    begun: bool = False  # the folder exists, but is incomplete or holds other packages
    interpreter: Path | None = None  # the CPython it is or would be made with; None where none is at hand


def default_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's cache folder: $LITEFLEET_CACHE, $XDG_CACHE_HOME/litefleet or ~/.cache/litefleet."""
    if environ.get("LITEFLEET_CACHE"):
        return Path(environ["LITEFLEET_CACHE"])
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "litefleet"


def host_problem(system: str, machine: str) -> str:
    """Return why no toolchain can be installed on this machine, "" when one can."""
    if system == "linux" and machine.lower() in ("x86_64", "amd64"):
        return ""
    return (
        f"This machine is {system} {machine}; Paddle-Lite's converter and PaddlePaddle are published for x86_64 Linux. "
        "Run litefleet on an x86_64 Linux machine, or name ready-made .nb files."
    )


def _candidates(version: str, environ: Mapping[str, str]) -> list[Path]:
    """Return paths where a CPython `version` ("3.10") may be: on PATH, in pyenv's versions folder."""
    found = [shutil.which(f"python{version}", path=environ.get("PATH", ""))]
    home = environ.get("HOME") or str(Path.home())
    pyenv = Path(environ.get("PYENV_ROOT") or Path(home) / ".pyenv") / "versions"
    folders = sorted(pyenv.glob(f"{version}.*"), reverse=True) if pyenv.is_dir() else []
    return [Path(p) for p in found if p] + [f / "bin" / "python" for f in folders if (f / "bin" / "python").exists()]


def own_interpreter() -> Path | None:
    """Return the CPython that runs litefleet, outside of any virtual environment; None for another Python."""
    base = Path(getattr(sys, "_base_executable", "") or sys.executable)
    return base if platform.python_implementation() == "CPython" and sys.maxsize > 2**32 else None


OWN = own_interpreter()


def interpreters(version: str, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return paths where a CPython `version` ("3.10") may be, the environments' own among them: they may be another version."""
    return [*_candidates(version, environ), *sorted(default_cache(environ).glob("*-*/bin/python"))]


class _Base(NamedTuple):
    """The interpreter of an environment; `wheel_for` is the CPython whose wheel it gets, "" for its own."""

    python: Path
    wheel_for: str = ""


class Toolchains:
    """The environments under one cache folder; several tasks and processes may use it at once.

    `own` is the interpreter that takes Paddle-Lite's wheel where no CPython of the wheel's versions is found.
    """

    def __init__(
        self,
        cache: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        system: str = sys.platform,
        machine: str = platform.machine(),
        own: Path | None = OWN,
    ) -> None:
        self._own = own
        self._environ = dict(os.environ if environ is None else environ)
        self.cache = cache if cache is not None else default_cache(self._environ)
        self._host_problem = host_problem(system, machine)

    async def lite(self, version: str = DEFAULT_PADDLELITE) -> Toolchain:
        """Return Paddle-Lite's converter and runtime of this version.

        Raises: LitefleetError for a version without a wheel, for a machine that is not x86_64 Linux, or when uv fails.
        """
        pythons, packages = _lite_recipe(version)
        return await self._environment(f"lite-{version}", version, pythons, packages)

    async def paddle(self) -> Toolchain:
        """Return PaddlePaddle, the reference engine.  Raises: LitefleetError when it cannot be installed."""
        paddle = await self._paddle()
        return await self._environment(f"paddle-{paddle.version}", paddle.version, paddle.pythons, paddle.packages)

    async def paddle_version(self) -> str:
        """Return the version that `paddle` returns; nothing is made."""
        return (await self._paddle()).version

    async def lite_status(self, version: str = DEFAULT_PADDLELITE) -> ToolchainStatus:
        """Return the state of Paddle-Lite's environment; nothing is made.  Raises: LitefleetError for an unknown version."""
        pythons, packages = _lite_recipe(version)
        return await self._status(f"lite-{version}", pythons, packages)

    async def paddle_status(self) -> ToolchainStatus:
        """Return the state of PaddlePaddle's environment; nothing is made."""
        paddle = await self._paddle()
        return await self._status(f"paddle-{paddle.version}", paddle.pythons, paddle.packages)

    async def _paddle(self) -> Paddle:
        """Return the PaddlePaddle whose environment is there, else the first that a CPython of this machine can run."""
        for paddle in PADDLES:
            if _is_ready(self.cache / f"paddle-{paddle.version}", paddle.packages):
                return paddle
        for paddle in PADDLES:
            if await self._present(paddle.pythons) or await self._found_by_uv(paddle.pythons):
                return paddle
        return PADDLES[0]  # uv may download a CPython for it

    async def _status(self, name: str, pythons: tuple[str, ...], packages: tuple[str, ...]) -> ToolchainStatus:
        folder = self.cache / name
        if _is_ready(folder, packages):
            return ToolchainStatus(name, folder, pythons, True, interpreter=folder / "bin" / "python")
        found = await self._present(pythons) or await self._found_by_uv(pythons)
        if found is None and packages[0].startswith(_PADDLELITE):
            found = self._own
        return ToolchainStatus(name, folder, pythons, False, os.path.lexists(folder), found)

    async def _present(self, versions: Sequence[str]) -> Path | None:
        """Return a fitting interpreter on PATH or among pyenv's."""
        for version in versions:
            own = [self._own] if self._own is not None else []  # litefleet's own one may not be on PATH
            for candidate in [*_candidates(version, self._environ), *own]:
                if await self._fits(candidate, version):
                    return candidate
        return None

    async def _found_by_uv(self, versions: Sequence[str]) -> Path | None:
        for version in versions:
            try:
                found = await self._uv_python("find", version)
            except LitefleetError:  # no uv
                return None
            if found is not None:
                return found
        return None

    async def _environment(
        self, name: str, version: str, pythons: Sequence[str], packages: tuple[str, ...]
    ) -> Toolchain:
        if self._host_problem:
            raise ToolchainError(self._host_problem)
        folder = self.cache / name
        made = Toolchain(version, folder / "bin" / "python", folder / "bin" / _OPT)
        if not _is_ready(folder, packages):
            async with self._lock(name):
                if not _is_ready(folder, packages):  # another process may have made it while this one waited
                    await self._build(folder, await self._interpreter(pythons, name, packages), packages)
        return made

    @asynccontextmanager
    async def _lock(self, name: str) -> AsyncIterator[None]:
        """Hold one environment's lock; the kernel releases it when the holding process ends."""
        async with AsyncExitStack() as held:
            try:
                make_private_folder(self.cache)
                if why := foreign_writers(self.cache):
                    raise FolderError(
                        f"The cache folder {self.cache} is not used: {why}, and programs in it are run. "
                        f"Remove it and run again, or set LITEFLEET_CACHE to another folder."
                    )
                await held.enter_async_context(locked(self.cache / f"{name}.lock"))
            except OSError as error:
                raise FolderError(
                    f"The cache folder {self.cache} cannot be written: {error.strerror}. Set LITEFLEET_CACHE to another."
                ) from error
            yield

    async def _uv(self, *argv: str | Path) -> SubprocessEnd:
        try:
            tool = uv.find_uv_bin()
        except FileNotFoundError as error:
            raise ToolchainError(
                "The uv program is missing from litefleet's environment; reinstall litefleet."
            ) from error
        # --no-config: a uv.toml in the current folder must not decide which code is installed.
        return await run_subprocess([tool, "--no-config", *argv], time_limit_s=_BUILD_LIMIT_S, env=self._environ)

    async def _build(self, folder: Path, base: _Base, packages: tuple[str, ...]) -> None:
        """Make the environment in place (a venv cannot be moved); the marker file, written last, states that it is complete."""
        try:
            # uv's own --clear rejects the rest of a venv that lost its configuration.
            await asyncio.to_thread(_remove, folder)
            await self._step(folder, packages, "venv", "-q", "--no-project", "--python", base.python, folder)
            if base.wheel_for:
                await self._unpack_foreign(folder, base.wheel_for, packages)
            else:
                await self._install(folder, packages, packages)
            partial = folder / ".done.new"
            partial.write_text(json.dumps(packages))
            partial.replace(folder / ".done")
        except OSError as error:
            raise ToolchainError(
                f"The environment {folder} could not be made: {error.filename}: {error.strerror}. "
                "Check permissions and free space there, or set LITEFLEET_CACHE to another folder."
            ) from error

    async def _unpack_foreign(self, folder: Path, version: str, packages: tuple[str, ...]) -> None:
        """Install numpy for the environment's interpreter and unpack the wheel for CPython `version` beside it."""
        paddlelite, *others = packages
        new = self._own == OWN and sys.version_info[:2] > _LAST_NUMPY_1
        numpy = tuple("numpy>=2" if name == _NUMPY_1 and new else name for name in others)
        await self._install(folder, packages, numpy)
        (site,) = folder.glob("lib/python*/site-packages")
        foreign = ("--target", site, "--python-version", version, "--no-deps")
        await self._install(folder, packages, (paddlelite,), *foreign)
        shutil.copyfile(_FOREIGN_OPT, folder / "bin" / _OPT)

    async def _install(
        self, folder: Path, packages: tuple[str, ...], some: tuple[str, ...], *flags: str | Path
    ) -> None:
        wanted = folder / "requirements.txt"
        wanted.write_text(requirement_lines(some), encoding="utf-8")
        python = folder / "bin" / "python"
        install = ("pip", "install", "-q", "--python", python, "--only-binary", ":all:", *flags, "-r", wanted)
        await self._step(folder, packages, *install)

    async def _step(self, folder: Path, packages: tuple[str, ...], *argv: str | Path) -> None:
        end = await self._uv(*argv)
        if end.code or end.timed_out:
            raise ToolchainError(_build_failure(end, folder, packages))

    async def _interpreter(self, versions: Sequence[str], name: str, packages: tuple[str, ...]) -> _Base:
        """Return a 64-bit x86 CPython of one of these versions: an installed one, else one that uv downloads.

        Paddle-Lite's wheel takes litefleet's own CPython before a download.
        Raises: LitefleetError when there is none and uv cannot download one.
        """
        present = await self._present(versions) or await self._found_by_uv(versions)
        if present is not None:
            return _Base(present)
        if self._own is not None and packages[0].startswith(_PADDLELITE):
            return _Base(self._own, versions[0])
        for version in versions:
            found = await self._uv_python("install", version)
            if found is not None:
                return _Base(found)
        wanted = " or ".join(versions)
        raise ToolchainError(
            f"The environment {name} needs CPython {wanted}, which is not on PATH, not among pyenv's versions, "
            f"and could not be fetched by uv. Install python{versions[0]}, for instance with `uv python install "
            f"{versions[0]}` or `pyenv install {versions[0]}`, and run again."
        )

    async def _uv_python(self, action: str, version: str) -> Path | None:
        if action == "install" and (await self._uv("python", "install", "-q", version)).code:
            return None
        end = await self._uv("python", "find", "-q", "--no-project", version)
        candidate = Path(end.output.strip().splitlines()[-1]) if not end.code and end.output.strip() else None
        return candidate if candidate and await self._fits(candidate, version) else None

    async def _fits(self, python: Path, version: str) -> bool:
        """Whether the interpreter reports this version itself: its name may be a pyenv shim's, a 32-bit build's, a PyPy's."""
        try:
            end = await run_subprocess([python, "-I", "-c", _DESCRIBE], time_limit_s=20, env=self._environ)
        except LitefleetError:
            return False
        return end.code == 0 and end.output.split() == ["CPython", version, "64", "x86_64"]


def _lite_recipe(version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the CPythons and the packages of one Paddle-Lite.  Raises: LitefleetError for an unknown version."""
    pythons = PUBLISHED_PYTHONS.get(version)
    if pythons is None:
        known = ", ".join(PUBLISHED_PYTHONS)
        raise ToolchainError(f"There is no Paddle-Lite {version} for this machine; known are {known}.")
    return pythons[::-1], (f"{_PADDLELITE}{version}", _NUMPY_1)  # the newest CPython is preferred


def _remove(folder: Path) -> None:
    """Remove an environment, its marker first: if this stops half-way, the rest must not count as complete."""
    if folder.is_dir() and not folder.is_symlink():
        (folder / ".done").unlink(missing_ok=True)
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def _is_ready(folder: Path, packages: tuple[str, ...]) -> bool:
    """Whether the environment is complete, holds these packages, and its base interpreter still exists."""
    try:
        done = json.loads((folder / ".done").read_text())
    except (OSError, ValueError):
        return False
    return bool(done == list(packages)) and (folder / "bin" / "python").exists()


def _build_failure(end: SubprocessEnd, folder: Path, packages: tuple[str, ...]) -> str:
    why = "its time limit passed" if end.timed_out else end.last_lines() or f"exit code {end.code}"
    return (
        f"The environment {folder} with {', '.join(packages)} could not be made: {why} "
        "Check the network, the package index and the free space, then run again."
    )


@cache
def _pinned() -> dict[str, str]:
    """Return requirement ("numpy==1.26.4 ; python_full_version >= '3.9'") -> its whole entry with sums."""
    text = PINNED.read_text(encoding="utf-8")
    found = re.findall(r"^(\S+==[^\\\n]+?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return {requirement: f"{requirement} \\\n{hashes.rstrip()}" for requirement, hashes in found}


def requirement_lines(packages: Iterable[str]) -> str:
    """Return a requirements file for packages such as "paddlelite==2.13rc0" and "numpy<2", with the known sums.

    "numpy<2" becomes the newest numpy 1 of each CPython; any other requirement without an entry stays as it is.
    """
    lines = []
    for package in packages:
        if package == _NUMPY_1:
            lines += [entry for name, entry in _pinned().items() if name.startswith("numpy==")]
        else:
            lines.append(_pinned().get(package, package))
    return "\n".join(lines) + "\n"
