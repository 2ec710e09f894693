"""Finds Python packages on disk and their versions, without importing them."""

from __future__ import annotations

import os

from ..formats.files import read_regular
from .values import Package

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Iterable, List, Tuple


def find_package(name: str, folders: Iterable[str]) -> Package:
    """Return the package that an import over `folders` (as in sys.path) would take; empty when there is none."""
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(os.path.join(path, "__init__.py")):
            return Package(_version(name, folder), path)
    return Package()


def _version(name: str, folder: str) -> str:
    """Return the version by the metadata folder beside the package, else by its version.py, else ""."""
    for entry in _entries(folder):
        stem, _, ending = entry.rpartition(".")
        if ending.lower() in ("dist-info", "egg-info") and stem.lower().startswith(name.lower() + "-"):
            version = _metadata_version(stem[len(name) + 1 :])
            if version:
                return version
    import re  # 6 ms, and packages have metadata

    text = _text(os.path.join(folder, name, "version.py"))
    written = re.search(
        r"^(?:short_version|version|full_version)(?:\s*:\s*str)?\s*=\s*['\"]([\w.!+]{1,60})['\"]", text, re.M
    )
    return written.group(1) if written else ""


def _metadata_version(text: str) -> str:
    """Return the version in what follows a package's name there ("1.26.4", "1.26.4-py3.11"), "" where that is none."""
    version, dash, python = text.partition("-")
    if dash and (python[:2].lower() != "py" or not python[2:].replace(".", "").isdecimal()):
        return ""
    kept = version.replace(".", "").replace("!", "").replace("+", "").replace("_", "")
    return version if version[:1].isdecimal() and len(version) <= 61 and kept.isalnum() else ""


def wheel_tags(name: str, folder: str) -> Tuple[str, ...]:
    """Return the `Tag:` lines of the package's WHEEL file ("cp310-cp310-linux_x86_64"), sorted; empty without one."""
    for entry in _entries(folder):
        if entry.lower().startswith(name + "-") and entry.endswith(".dist-info"):
            lines = _text(os.path.join(folder, entry, "WHEEL")).splitlines()
            return tuple(sorted({line[4:].strip()[:200] for line in lines if line.startswith("Tag:")}))[:32]
    return ()


def other_pythons(folders: Iterable[str]) -> Tuple[str, ...]:
    """Return the names of Python 3 interpreters in `folders` (as in PATH): ("python3", "python3.11")."""
    names = {
        entry for folder in folders for entry in _entries(folder, "python3") if _is_python(entry[len("python3") :])
    }
    return tuple(sorted(names))[:32]


def _is_python(version: str) -> bool:
    return not version or (version[0] == "." and version[1:].isdecimal() and len(version) <= 3)


def _entries(folder: str, prefix: str = "") -> List[str]:
    try:
        return sorted(entry for entry in os.listdir(folder or ".") if entry.startswith(prefix))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return read_regular(path, 1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
