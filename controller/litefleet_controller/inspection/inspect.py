"""`litefleet inspect` for many files and architectures: an unreadable file does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.findings import Severity
from rich.cells import cell_len

from ..catalogue.translate import tr, translated
from ..catalogue.wrap import padded
from ..common.errors import UsageError
from ..common.text import sanitize
from . import FailOn
from .model import Inspection, arch_named, inspect_file

MOST = 10_000  # files
_LONG = 5_000  # characters: a sentence with the longest path
_COLUMNS = ("FILE", "FOR", "VERDICT", "FINDINGS")


@dataclass(frozen=True)
class Inspected:
    """The inspected files in the order they were named, and a sentence for each that could not be read."""

    inspections: tuple[Inspection, ...]
    unread: tuple[tuple[Path, str], ...] = ()
    fail_on: FailOn = FailOn.ERROR

    @property
    def exit_code(self) -> int:
        """2 when a named file could not be read, 1 for findings of the failing severity, else 0."""
        if self.unread:
            return 2
        fatal = {
            FailOn.ERROR: {Severity.ERROR},
            FailOn.WARNING: {Severity.ERROR, Severity.WARNING},
            FailOn.NEVER: set[Severity](),
        }[self.fail_on]
        return int(any(found.severity in fatal for one in self.inspections for found in one.findings))

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form: `schema`, `exit_code`, `files`, `unread`; for a single file also its own keys."""
        files = [one.to_dict() for one in self.inspections]
        alone = files[0] if len(files) == 1 and not self.unread else {}
        unread = [{"file": str(path), "error": error} for path, error in self.unread]
        return {**alone, "schema": 1, "exit_code": self.exit_code, "files": files, "unread": unread}

    def to_text(self, quiet: bool = False) -> str:
        """Return each file's description and, for several, a table; with `quiet` only of files that have findings."""
        shown = [one for one in self.inspections if one.findings or not quiet]
        parts = [one.to_text() for one in shown]
        if len(self.inspections) + len(self.unread) > 1 and (shown or not quiet):
            parts.append("\n".join(_table(shown)) + f"\n\n{self._counted()}" if shown else self._counted())
        return "\n\n".join(parts)

    def _counted(self) -> str:
        files = len({one.path for one in self.inspections}) + len(self.unread)
        refused = len({one.path for one in self.inspections if one.exit_code})
        summary = [f"{files} file{'' if files == 1 else 's'}", f"{refused} refused"]
        summary += [f"{len(self.unread)} could not be read"] if self.unread else []
        return ", ".join(map(translated, summary))


def inspect_all(
    paths: Sequence[Path], arches: Sequence[str] = (), recursive: bool = False, fail_on: FailOn = FailOn.ERROR
) -> Inspected:
    """Inspect each file, alone or once for each architecture (`uname -m` words); folders only with `recursive`.

    Raises: UsageError for an unknown architecture or too many files.  Unreadable files are in `Inspected.unread`.
    """
    names = dict.fromkeys(arch_named(name).name for name in arches)  # a wrong name is reported before any file is read
    wanted: Sequence[str | None] = tuple(names) or (None,)
    done: list[Inspection] = []
    unread: dict[Path, str] = {}
    for path, problem in _expanded(paths, recursive).items():
        try:
            if problem:
                raise UsageError(problem)
            done += [inspect_file(path, arch) for arch in wanted]
        except UsageError as error:
            unread[path] = sanitize(str(error), _LONG)
    return Inspected(tuple(done), tuple(unread.items()), fail_on)


def _expanded(paths: Sequence[Path], recursive: bool) -> dict[Path, str]:
    """Return the files to read, each once, in order, with a sentence for those known to be unreadable, else ""."""
    found: dict[Path, str] = {}
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises for names that are too long)
            found.setdefault(path, "")
        elif not recursive:
            found[path] = f"{path} is a folder; name the .nb files, or add --recursive for all below it."
        else:
            _add_below(path, found)
        if len(found) > MOST:
            raise UsageError(f"There are more than {MOST} files; name fewer, or smaller folders.")
    return found


def _add_below(folder: Path, found: dict[Path, str]) -> None:
    """Add all *.nb below a folder, sorted by name, without hidden folders and links to folders."""
    some = False

    def record_unread(error: OSError) -> None:
        found[Path(error.filename)] = f"{error.filename} cannot be read: {error.strerror}. Check its permissions."

    for place, folders, names in os.walk(folder, onerror=record_unread):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(place, name) for name in sorted(names) if name.lower().endswith(".nb")]
        some = some or bool(files)
        for path in files:
            found.setdefault(path, "")
        if len(found) > MOST:
            return
    if not some and folder not in found:
        found[folder] = f"There is no .nb file below {folder}. Name the folder that holds the converted models."


def _table(inspections: Sequence[Inspection]) -> Iterator[str]:
    rows = [[tr(name) for name in _COLUMNS], *(_row(one) for one in inspections)]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        cells = [padded(cell, width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[3]]).rstrip()


def _row(one: Inspection) -> tuple[str, str, str, str]:
    codes = dict.fromkeys(found.code for found in one.findings)
    return (
        sanitize(str(one.path)),
        one.arch.name if one.arch else "-",
        tr(one.verdict or "-"),
        " ".join(codes) or tr("none"),
    )
