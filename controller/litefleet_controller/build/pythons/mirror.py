"""Fetches Debian packages from a mirror, without apt: a signed index, then packages by their hashes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import lzma
import re
import shutil
import time
import urllib.request
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from ...common.subprocesses import run_subprocess
from ...config.runtimes import PythonsConfig
from .deb import Package, PackageError, parse_index

_TIME_LIMIT_S = 60.0  # without a byte
_MOST_RELEASE, _MOST_INDEX, _MOST_UNPACKED, _MOST_PACKAGE = 4 << 20, 64 << 20, 256 << 20, 64 << 20  # bytes


class MirrorSource:
    """Debian's packages for one architecture ("arm64") on the configured mirror; gpgv verifies the index."""

    def __init__(self, architecture: str, folder: Path, config: PythonsConfig) -> None:
        self._architecture = architecture
        self._folder = folder
        self._config = config
        self._index = ""

    async def packages(self, names: Sequence[str]) -> dict[str, Package]:
        """Return the packages of these names that the mirror has.  Raises: PackageError for an index that cannot be trusted."""
        if not self._index:
            release = await self._verified_release()
            self._index = await asyncio.to_thread(self._fetch_index, release)
        return await asyncio.to_thread(parse_index, self._index, frozenset(names), self._architecture)

    async def fetch(self, packages: Iterable[Package]) -> list[Path]:
        """Return the packages' files, each with the hash that the index names.  Raises: PackageError."""
        return [await asyncio.to_thread(self._fetch_package, package) for package in packages]

    async def _verified_release(self) -> str:
        """Return the text of InRelease whose signature gpgv has verified."""
        if shutil.which("gpgv") is None:
            raise PackageError("gpgv is missing on this machine, so no index of packages can be verified: install gpgv")
        keyring = self._config.keyring
        if not keyring.is_file():
            raise PackageError(
                f"the keyring {keyring} is missing: install debian-archive-keyring, or name one as `python: {{keyring: FILE}}`"
            )
        url = f"{self._config.mirror}/dists/{self._config.suite}/InRelease"
        signed, text = self._folder / "InRelease", self._folder / "Release"
        signed.write_bytes(await asyncio.to_thread(_download, url, _MOST_RELEASE))
        argv = ["gpgv", "--quiet", "--keyring", str(keyring.absolute()), "--output", str(text), str(signed)]
        ended = await run_subprocess(argv, time_limit_s=60)
        if not ended.ok or not text.is_file():
            raise PackageError(f"the signature of {url} is not valid by {keyring}: {ended.last_lines(3)}")
        release = text.read_text(encoding="utf-8", errors="replace")
        _check_age(release, url)
        return release

    def _fetch_index(self, release: str) -> str:
        name = f"main/binary-{self._architecture}/Packages.xz"
        found = re.search(rf"^ ([0-9a-f]{{64}}) +(\d+) {re.escape(name)}$", release, re.MULTILINE)
        if found is None:
            raise PackageError(f"the mirror's suite {self._config.suite} has no {name}")
        url = f"{self._config.mirror}/dists/{self._config.suite}/{name}"
        data = _download(url, _MOST_INDEX)
        _check(url, data, found[1])
        unpacker = lzma.LZMADecompressor(memlimit=256 << 20)
        try:
            text = unpacker.decompress(data, _MOST_UNPACKED)
        except lzma.LZMAError as error:
            raise PackageError(f"{url} cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise PackageError(f"{url} is cut, or larger than {_MOST_UNPACKED >> 20} MiB unpacked")
        return text.decode("utf-8", "replace")

    def _fetch_package(self, package: Package) -> Path:
        if package.size > _MOST_PACKAGE:
            raise PackageError(f"{package.name} has {package.size} bytes: no package of Python is that large")
        url = f"{self._config.mirror}/{package.file}"
        data = _download(url, package.size)
        _check(url, data, package.sha256)
        path = self._folder / f"{package.name}.deb"
        path.write_bytes(data)
        return path


def _check(url: str, data: bytes, sha256: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise PackageError(
            f"{url} has the SHA-256 {found[:12]}…, the signed index says {sha256[:12]}…: nothing of it is used"
        )


def _check_age(release: str, url: str) -> None:
    """Refuse an index that is past its own limit: an old one could hold back security updates."""
    found = re.search(r"^Valid-Until: (.{1,60})$", release, re.MULTILINE)
    until: datetime | None = None
    with contextlib.suppress(ValueError, TypeError):
        until = parsedate_to_datetime(found[1]) if found else None
    if until is not None and until.timestamp() < time.time():
        raise PackageError(f"{url} was valid until {until:%Y-%m-%d} only: the mirror is not kept up to date")


def _download(url: str, most: int) -> bytes:
    """Return what a URL holds, at most `most` bytes.  Raises: PackageError."""
    try:
        with urllib.request.urlopen(url, timeout=_TIME_LIMIT_S) as answer:  # noqa: S310 - the configuration's own URL
            data: bytes = answer.read(most + 1)
    except (OSError, ValueError) as error:
        raise PackageError(f"{url} cannot be fetched: {getattr(error, 'reason', None) or error}") from error
    if len(data) > most:
        raise PackageError(f"{url} has more than {most} bytes")
    return data
