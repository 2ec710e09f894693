"""Reads inventories from disk: one file, or all *.yaml files of a folder together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .foreign import convert, guess_kind
from .model import Inventory
from .parse import parse_documents
from .problems import Place, Problems

MAX_BYTES = 32 * 1024 * 1024


def load(path: Path | str, kind: str = "") -> Inventory:
    """Return the inventory at `path`, a YAML file or a folder of them, read in order of their names.

    With `kind`, one of foreign.KINDS, it is another tool's file, read in place; `notes` say what was not understood.
    Raises: InventoryError with every problem; a file of more than MAX_BYTES is one.
    """
    if kind:
        converted = convert(Path(path), kind)
        return replace(
            parse_documents([(f"{path} (as `litefleet import` converts it)", converted.text)]), notes=converted.notes
        )
    problems = Problems()
    files = _files(Path(path), problems)
    documents = [(str(file), text) for file in files if (text := _read(file, problems)) is not None]
    problems.raise_if_any()
    return parse_documents(documents)


def kind_of_path(path: Path | None) -> str:
    """Return the kind of a file that only its path names: "" for a folder or *.yaml, else another tool's, by its name."""
    if path is None or path.is_dir() or path.suffix in (".yaml", ".yml") or not path.exists():
        return ""
    return guess_kind(path)


def _files(path: Path, problems: Problems) -> list[Path]:
    """Return the files to read; hidden files are ignored."""
    place = Place(str(path))
    try:
        if not path.is_dir():
            return [path]
        names = [p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith(".")]
    except (OSError, ValueError) as err:
        problems.add(place, f"cannot be read: {_reason(err)}")
        return []
    if not names:
        problems.add(place, "this folder contains no *.yaml file; name the inventory file with -i")
    return sorted(names)


def _read(path: Path, problems: Problems) -> str | None:
    """Return a file's text; None when it cannot be read, which is added to `problems`."""
    place = Place(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.add(place, "the file is missing; name the inventory with -i")
        return None
    except (OSError, ValueError) as err:
        problems.add(place, f"cannot be read: {_reason(err)}")
        return None
    if len(data) > MAX_BYTES:
        problems.add(place, f"larger than {MAX_BYTES // 1024**2} MiB; is this an inventory?")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        problems.add(Place(str(path), line), f"not UTF-8 (byte 0x{data[err.start]:02x}); save the file as UTF-8")
        return None


def _reason(err: Exception) -> str:
    return (err.strerror or str(err)) if isinstance(err, OSError) else str(err)
