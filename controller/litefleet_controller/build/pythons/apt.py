"""Fetches Debian packages of another architecture with the machine's own apt: its sources, keys and proxies, no root needed.

apt works in a folder of its own, so the machine's package lists stay as they are.  It verifies the signature of the index and the
hash of each package.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from litefleet_agent.formats.checked import shortened

from ...common.errors import LitefleetError
from ...common.subprocesses import SubprocessEnd, run_subprocess
from .deb import Package, PackageError, parse_index

_LIMIT_S = 600.0
_SOURCES = Path("/etc/apt")


class AptSource:
    """Debian's packages for one architecture ("arm64"), fetched by apt into `folder`."""

    def __init__(self, architecture: str, folder: Path, etc: Path = _SOURCES) -> None:
        self._architecture = architecture
        self._folder = folder
        self._etc = etc
        self._updated = False
        self.incomplete = ""  # why an index could not be fetched

    @staticmethod
    def why_not() -> str:
        """Return why apt cannot be used on this machine, "" when it can."""
        return "" if shutil.which("apt-get") and shutil.which("apt-cache") else "there is no apt on this machine"

    async def packages(self, names: Sequence[str]) -> dict[str, Package]:
        """Return the packages of these names that the sources have.  Raises: PackageError when the index cannot be fetched."""
        if not self._updated:
            await asyncio.to_thread(self._prepare)
            ended = await self._run("apt-get", "-q", "update")
            # Where one suite is being synchronized, the others serve: apt has ignored what it could not verify.
            self.incomplete = "" if ended.ok else _errors(ended)
            self._updated = True
        ended = await self._run("apt-cache", "show", "--no-all-versions", *names)  # its code says that one is missing
        text = re.sub(r"\n(?=[NWE]: )", "\n\n", ended.output)
        found = parse_index(text, frozenset(names), self._architecture)
        if not found and self.incomplete:
            raise PackageError(f"apt could not fetch the index for {self._architecture}: {self.incomplete}")
        return found

    async def fetch(self, packages: Iterable[Package]) -> list[Path]:
        """Return the files of packages, whose hashes apt has verified.  Raises: PackageError."""
        target = self._folder / "debs"
        target.mkdir(exist_ok=True)
        wanted = [f"{package.name}={package.version}" for package in packages]
        ended = await self._run("apt-get", "-q", "-o", "APT::Sandbox::User=", "download", *wanted, cwd=target)
        files = sorted(target.glob("*.deb"))
        if not ended.ok or len(files) < len(wanted):
            raise PackageError(f"apt could not fetch the packages of Python for {self._architecture}: {_errors(ended)}")
        return files

    def _prepare(self) -> None:
        for part in ("state/lists/partial", "cache/archives/partial", "sources.d"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").write_bytes(b"")
        used = 0
        files = [self._etc / "sources.list", *sorted((self._etc / "sources.list.d").glob("*"))]
        for number, file in enumerate(path for path in files if path.is_file()):
            text = sources_of(file.read_text(encoding="utf-8", errors="replace"), file.suffix == ".sources")
            if text:
                used += 1
                (self._folder / "sources.d" / f"{number:03}{file.suffix}").write_text(text, encoding="utf-8")
        if not used:
            raise LitefleetError(
                f"No source of Debian packages is configured in {self._etc}: name a mirror as `python: {{mirror: URL}}` "
                "in litefleet.yaml."
            )

    async def _run(self, *argv: str, cwd: Path | None = None) -> SubprocessEnd:
        own = {
            "Dir::State": self._folder / "state",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache": self._folder / "cache",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self._folder / "sources.d",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "APT::Update::Post-Invoke": "",
            "APT::Update::Post-Invoke-Success": "",
            "APT::Sandbox::User": "",
        }
        options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
        return await run_subprocess([argv[0], *options, *argv[1:]], time_limit_s=_LIMIT_S, cwd=cwd)


def sources_of(text: str, deb822: bool) -> str:
    """Return the part of a list of sources that has Debian's component `main` and is not for certain architectures only."""
    if not deb822:
        lines = [line.strip() for line in text.splitlines()]
        return "".join(f"{line}\n" for line in lines if re.match(r"deb\s.*\smain\b", line) and "arch=" not in line)
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields = {name.strip().lower(): value.split() for name, _, value in (line.partition(":") for line in lines)}
        general = not {"architectures", "arch"} & fields.keys() and fields.get("enabled") != ["no"]
        if general and "deb" in fields.get("types", ()) and "main" in fields.get("components", ()):
            kept.append("\n".join(lines) + "\n")
    return "\n".join(kept)


def _errors(ended: SubprocessEnd) -> str:
    lines = [line for line in ended.output.splitlines() if line.startswith(("E: ", "W: ", "Err:"))]
    return shortened(" | ".join(lines[-4:]), 800) or ended.last_lines(3) or ended.ending
