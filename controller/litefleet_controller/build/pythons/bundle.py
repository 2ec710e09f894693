"""Packs a Python into archives that a device can unpack: reproducible, named by their content, each packed as devices differ."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path

from ...common.errors import LitefleetError
from ...common.files import sha256_of, write_atomically
from ...devices.python_bundle import PackedForm, PythonBundle
from .tree import PythonTree

FORMS = ("xz", "gz", "tar")
_LIMIT = 256 << 20  # bytes unpacked; Debian's takes 30 MB


def pack(tree: PythonTree, folder: Path, description: str) -> PythonBundle:
    """Write the tree's archives into `folder` and return the bundle; equal files give equal bytes.

    Raises: LitefleetError for a tree that is too large, OSError.
    """
    total = sum(len(data) for data, _ in tree.files.values())
    if total > _LIMIT:
        raise LitefleetError(
            f"This Python has {total >> 20} MiB unpacked; at most {_LIMIT >> 20} are sent to a device."
        )
    plain = _tar(tree)
    key = hashlib.sha256(plain).hexdigest()[:32]
    # busybox reads CRC32 only in some builds; 8 MiB of dictionary are what unpacking takes of the device's memory
    xz = lzma.compress(plain, check=lzma.CHECK_CRC32, preset=6)
    packed = {"tar": plain, "gz": gzip.compress(plain, 6, mtime=0), "xz": xz}
    forms = {}
    for form in FORMS:
        write_atomically(folder / _name(key, form), packed[form])
        forms[form] = PackedForm(folder / _name(key, form), len(packed[form]), hashlib.sha256(packed[form]).hexdigest())
    return PythonBundle(key, tree.machine, tree.python, tree.libc, total, len(tree.files), forms, description)


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


def remember(bundle: PythonBundle, folder: Path, request: str) -> None:
    """Record the bundle that a request gave.  Raises: OSError."""
    about = {name: getattr(bundle, name) for name in _ABOUT}
    about["forms"] = {form: [packed.size, packed.sha256] for form, packed in bundle.forms.items()}
    write_atomically(folder / f"python-{request}.json", json.dumps(about, indent=1).encode())


_ABOUT = ("key", "machine", "python", "libc", "unpacked_size", "files", "description")


def recall(folder: Path, request: str) -> PythonBundle | None:
    """Return the bundle that a request gave before; None where a file of it is missing or damaged."""
    try:
        about = json.loads((folder / f"python-{request}.json").read_text(encoding="utf-8"))
        forms = {
            form: PackedForm(folder / _name(about["key"], form), int(size), str(sha256))
            for form, (size, sha256) in about["forms"].items()
        }
        intact = all(sha256_of(packed.path) == packed.sha256 for packed in forms.values())
        return PythonBundle(**{**{name: about[name] for name in _ABOUT}, "forms": forms}) if intact and forms else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
