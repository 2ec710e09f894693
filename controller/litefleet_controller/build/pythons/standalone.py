"""Reads a Python of one's own: a relocatable build (python-build-standalone's archive) or its unpacked folder."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from litefleet_agent.formats.elf import ElfError, read_elf

from .deb import PackageError, PackageFile
from .tree import PythonTree, is_dropped, wrapper

_MOST_FILE, _MOST_FILES, _MOST_TOTAL = 128 << 20, 50_000, 512 << 20  # bytes, files, bytes


def tree_of_own(path: Path) -> PythonTree:
    """Return the tree of an archive or a folder that holds bin/python3 and lib/python3.N, at its top or one folder below.

    Where it holds a loader as lib/ld.so it is started by that; else the device's own loader and libc start it.
    Raises: PackageError for what is no Python.
    """
    files = {file.path: file for file in (_of_folder(path) if path.is_dir() else _of_archive(path))}
    tops = [found[1] for name in files if (found := re.fullmatch(r"(.{0,200}?)lib/python(3\.\d{1,2})/os\.py", name))]
    if not tops:
        raise PackageError(f"{path} holds no Python: no lib/python3.N/os.py is in it")
    top = min(tops, key=len)
    own = {name.removeprefix(top): file for name, file in files.items() if name.startswith(top)}
    (version,) = {m[1] for name in own if (m := re.fullmatch(r"lib/python(3\.\d{1,2})/os\.py", name))} or {""}
    program = _content(own, f"bin/python{version}") or _content(own, "bin/python3")
    if not program:
        raise PackageError(f"{path} holds no bin/python{version}")
    try:
        elf = read_elf(program)
    except ElfError as error:
        raise PackageError(f"bin/python{version} of {path} is no program: {error}") from error
    brings = "lib/ld.so" in own
    tree = {"bin/python3": (wrapper(brings), True), "bin/python3.real": (program, True)}
    for name in own:
        if _is_kept(name, version) and ((data := _content(own, name)) or not own[name].target):
            tree[name] = (data, own[name].runs)  # an empty __init__.py too
    kind = "musl" if "musl" in elf.interpreter else "glibc"
    needs = kind if elf.interpreter and not brings else ""
    return PythonTree(tree, version, f"{kind} of {path.name}" if brings else "", elf.machine, needs)


def _is_kept(name: str, version: str) -> bool:
    stdlib = f"lib/python{version}/"
    if name.startswith(stdlib):
        inner = name.removeprefix(stdlib)
        return not is_dropped(inner) and not inner.startswith("site-packages/")
    return bool(re.fullmatch(r"lib/[^/]*\.so(\.[\d.]*)?|lib/ld\.so", name))


def _content(files: dict[str, PackageFile], name: str) -> bytes:
    """Return a file's content, through links within its folder; empty where there is none."""
    for _ in range(8):
        file = files.get(name)
        if file is None or not file.target:
            return file.data if file is not None else b""
        name = str(PurePosixPath(name).parent / file.target)
    return b""


def _of_folder(folder: Path) -> Iterator[PackageFile]:
    total = 0
    for number, path in enumerate(sorted(folder.rglob("*"))):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield PackageFile(name, b"", False, str(path.readlink()))
        elif path.is_file():
            total += path.stat().st_size
            if total > _MOST_TOTAL or number > _MOST_FILES:
                raise PackageError(f"{folder} holds more than a Python does: name the folder that has bin/ and lib/")
            yield PackageFile(name, path.read_bytes(), bool(path.stat().st_mode & 0o100))


def _of_archive(path: Path) -> Iterator[PackageFile]:
    total = 0
    try:
        with tarfile.open(path, mode="r:*") as archive:
            for number, member in enumerate(archive):
                name = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
                total += member.size
                if ".." in name.parts or member.size > _MOST_FILE or total > _MOST_TOTAL or number > _MOST_FILES:
                    raise PackageError(
                        f"{path} holds more than a Python does, or an unsafe path ({member.name[:80]!r})"
                    )
                if member.issym():
                    yield PackageFile(str(name), b"", False, member.linkname)
                elif member.isfile() and (stream := archive.extractfile(member)) is not None:
                    yield PackageFile(str(name), stream.read(), bool(member.mode & 0o100))
    except (OSError, tarfile.TarError, EOFError) as error:
        hint = " (of python-build-standalone take an install_only archive, .tar.gz)" if path.suffix == ".zst" else ""
        raise PackageError(f"{path} cannot be read as an archive: {error}{hint}") from error
