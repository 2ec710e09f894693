"""Packs a Python into archives that a device can unpack: reproducible, named by their content, packed as devices differ."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

from ...common.errors import LitefleetError
from ...common.files import sha256_of, write_atomically
from ...devices.python_bundle import PackedForm, PythonBundle
from .tree import PythonTree

_LIMIT = 256 << 20  # bytes unpacked; Debian's takes 24 MB
_LONGEST = 100  # bytes of a path: what a tar header holds in one piece, for devices whose shell reads it


def pack(tree: PythonTree, folder: Path, request: str, description: str) -> None:
    """Write the tree's archive into `folder`, and what it is under the request's name; equal files give equal bytes.

    Raises: LitefleetError for a tree that is too large, OSError.
    """
    total = sum(len(data) for data, _ in tree.files.values())
    if total > _LIMIT:
        raise LitefleetError(
            f"This Python has {total >> 20} MiB unpacked; at most {_LIMIT >> 20} are sent to a device."
        )
    if long := [path for path in tree.files if len(path.encode()) > _LONGEST]:
        raise LitefleetError(f"The path {long[0]} of this Python has more than {_LONGEST} bytes: rename or remove it.")
    plain = _tar(tree)
    sha256 = hashlib.sha256(plain).hexdigest()
    write_atomically(folder / _name(sha256[:32], "tar"), plain)
    about = {
        "key": sha256[:32],
        "machine": tree.machine,
        "python": tree.python,
        "libc": tree.libc,
        "unpacked_size": total,
        "files": len(tree.files),
        "description": description,
        "largest_page": tree.largest_page,
        "needs": tree.needs,
        "forms": {"tar": sha256},
    }
    _write(folder, request, about)


def recall(folder: Path, request: str, form: str) -> PythonBundle | None:
    """Return the Python that a request gave, packed in this form; None where it was not made or its archive is damaged."""
    try:
        about = json.loads((folder / f"python-{request}.json").read_text(encoding="utf-8"))
        if form not in about["forms"]:
            plain = (folder / _name(about["key"], "tar")).read_bytes()
            if hashlib.sha256(plain).hexdigest() != about["forms"]["tar"]:
                return None
            packed = _compress(plain, form)
            write_atomically(folder / _name(about["key"], form), packed)
            about["forms"][form] = hashlib.sha256(packed).hexdigest()
            _write(folder, request, about)
        path, sha256 = folder / _name(about["key"], form), about.pop("forms")[form]
        if sha256_of(path) != sha256:
            return None
        return PythonBundle(**about, packed=PackedForm(form, path, path.stat().st_size, sha256))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _compress(plain: bytes, form: str) -> bytes:
    if form == "gz":
        return gzip.compress(plain, 6, mtime=0)
    # not every busybox reads another check than CRC32; 4 MiB of dictionary are what unpacking takes of the device's memory
    return lzma.compress(plain, check=lzma.CHECK_CRC32, preset=4)


def _write(folder: Path, request: str, about: dict[str, Any]) -> None:
    write_atomically(folder / f"python-{request}.json", json.dumps(about, indent=1).encode())


def _name(key: str, form: str) -> str:
    return f"python-{key}.tar" if form == "tar" else f"python-{key}.tar.{form}"


def _tar(tree: PythonTree) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted({str(parent) for path in tree.files for parent in Path(path).parents} - {"."}):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for path, (data, runs) in sorted(tree.files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755 if runs else 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
