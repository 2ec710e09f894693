"""Packs folders into one deterministic zip, and unpacks wheels so that no member leaves its folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...common.errors import FindingError

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_LEVEL = 3  # lite.so and MKL: beyond 3 it takes twice the time for 2 % less
_LIMIT = 4 * 1024**3  # unpacked bytes; the published builds hold 170 MB


@dataclass(frozen=True)
class Packed:
    """A finished zip: its hash, and sizes in bytes."""

    sha256: str
    size: int
    unpacked_size: int


def fingerprint(path: Path) -> str:
    """Return a digest of names, sizes, times and modes that changes with a file or folder; "" when it is missing."""
    digest = hashlib.sha256()
    for name, file in sorted(_files(path)) if path.is_dir() else [("", path)]:
        try:
            facts = file.stat()
        except OSError:
            return ""
        digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_mode}\n".encode())
    return digest.hexdigest()


def pack(folders: Sequence[Path], out: Path) -> Packed:
    """Zip the folders' files, the first folder's winning: equal contents and modes give equal bytes.

    Raises: FindingError LF302 for a link that leads out of its folder.
    """
    files: dict[str, Path] = {}
    for folder in folders:
        for name, file in _files(folder):
            files.setdefault(name, file)
    total = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            data = files[name].read_bytes()
            total += len(data)
            info = zipfile.ZipInfo(name, _DATE)
            runs = files[name].stat().st_mode & stat.S_IXUSR
            # The same modes whatever the umask is.
            info.create_system, info.external_attr = 3, (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, _LEVEL)
    with out.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        os.fsync(source.fileno())
    return Packed(digest, out.stat().st_size, total)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name in the zip, file) for each file of a folder that a device needs."""
    base = root.resolve()
    for folder, subfolders, names in os.walk(root):
        here = PurePosixPath(Path(folder).relative_to(root).as_posix())
        subfolders[:] = [s for s in subfolders if not _useless_folder(here / s)]
        for name in names:
            file = Path(folder) / name
            if _useless_file(here / name):
                continue
            if not file.resolve().is_relative_to(base) or not file.is_file():
                raise FindingError.of(
                    "LF302", f"{file} is a link that leads out of {root}, or no plain file: copy what it names."
                )
            yield str(here / name), file
        for name in subfolders:
            if (Path(folder) / name).is_symlink():
                raise FindingError.of("LF302", f"{Path(folder) / name} is a link to a folder: copy what it names.")


def _useless_folder(path: PurePosixPath) -> bool:
    """Whether no device needs this folder: byte code (it depends on the interpreter), scripts, numpy's own tests."""
    top = path.parts[0]
    return path.name in ("__pycache__", "__MACOSX") or str(path) == "bin" or (top == "numpy" and path.name == "tests")


def _useless_file(path: PurePosixPath) -> bool:
    """Whether no device needs this file: AppleDouble forks, type stubs, uv's lock."""
    return path.name.startswith("._") or path.name in (".lock", ".DS_Store") or path.suffix in (".pyc", ".pyi")


def unpack_wheel(wheel: Path, target: Path) -> None:
    """Unpack a wheel as an installer does, without scripts.  Raises: FindingError LF302 when it is damaged or hostile."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in members) > _LIMIT:
                raise FindingError.of("LF302", f"{wheel.name} unpacks to more than {_LIMIT} bytes.")
            for info in members:
                unpack_member(archive, info, wheel, target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError, zlib.error) as error:
        raise FindingError.of("LF302", f"{wheel.name} cannot be unpacked: {error}.") from error


def unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, wheel: Path, target: Path) -> None:
    """Write one member below `target`, where an installer would.  Raises: FindingError LF302 when its path leads outside."""
    parts = installed_at(PurePosixPath(info.filename))
    if parts is None:
        return
    mode = info.external_attr >> 16
    unsafe = not parts or ".." in parts or any("\\" in p or "\0" in p for p in parts) or info.filename.startswith("/")
    if unsafe or stat.S_ISLNK(mode):
        raise FindingError.of("LF302", f"{wheel.name} holds '{info.filename}', which would not stay inside its folder.")
    path = target.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, path.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def installed_at(path: PurePosixPath) -> tuple[str, ...] | None:
    """Return the path parts of an installed member: `X.data/purelib/` and `platlib/` are the root; None for other data."""
    parts = path.parts
    if parts and parts[0].endswith(".data"):
        return parts[2:] if len(parts) > 2 and parts[1] in ("purelib", "platlib") else None
    return parts
