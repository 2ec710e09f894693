"""Reads a data set: a folder with one folder per class, a folder of .npz files, or a CSV file with the columns path and label.

Everything that can be checked without decoding images is checked here, and all problems are reported at once.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import ConfigError, UsageError
from ...config import Config
from ...config.choices import AccuracySpec
from .labels import Label, parse_label, read_characters
from .pictures import SUFFIXES

_KINDS = (*SUFFIXES, ".npz", ".npy")
_MOST_BYTES = 256 << 20  # of a CSV file
_MOST_SAMPLES = 1_000_000
_MOST_CLASSES = 100_000
_GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, are evenly spread however many there are
_SHOWN = 20  # problems that are reported


@dataclass(frozen=True)
class Sample:
    """One labelled file; `label` is a mask's path where the metric is iou, and None where the .npz holds the label."""

    path: Path
    label: Label | Path | None
    source: str  # "labels.csv:12", or the file's own name: where a problem is


@dataclass(frozen=True)
class DataSet:
    """The samples that are used, the classes' names by number (none where they are only numbered), and what makes it another."""

    spec: AccuracySpec
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    characters: tuple[str, ...]
    total: int  # samples before the choice of `spec.samples`
    digest: str  # SHA-256 over names, sizes, times and labels

    def class_name(self, number: int) -> str:
        """Return a class's name, its number where it has none."""
        return class_name(self.classes, number)

    def spread(self, count: int) -> tuple[Path, ...]:
        """Return the files of `count` samples from all over the data set; fewer where it has fewer, more begin with the same."""
        total, places, step = len(self.samples), dict[int, None](), 0
        while len(places) < min(count, total):
            step += 1
            places[int(step * _GOLDEN_RATIO % 1 * total)] = None
        return tuple(self.samples[place].path for place in places)


@dataclass(frozen=True)
class _Row:
    path: Path
    label: str | None
    source: str


def class_name(names: Sequence[str], number: int) -> str:
    """Return a class's name of `names` by number, its number where it has none."""
    return names[number] if 0 <= number < len(names) else str(number)


def read_dataset(spec: AccuracySpec, model: str) -> DataSet:
    """Return the data set of a model.  Raises: ConfigError with all problems, each one sentence."""
    place = f"models.{model}.golden.dataset"
    try:
        rows, classes = _rows(spec.dataset)
        characters = read_characters(spec.characters) if spec.characters is not None else ()
    except UsageError as error:
        raise ConfigError([f"{place}: {error}"]) from error
    if not rows:
        raise ConfigError([f"{place}: {spec.dataset} holds no labelled files ({', '.join(_KINDS)})"])
    problems: list[str] = []
    used = rows if len(rows) <= spec.samples else [rows[i * len(rows) // spec.samples] for i in range(spec.samples)]
    samples = []
    digest = hashlib.sha256()
    base = spec.dataset if spec.dataset.is_dir() else spec.dataset.parent
    for row in used:
        try:
            label = None if row.label is None else parse_label(row.label, spec.metric, classes, base, bool(characters))
            about = [_stamp(row.path), *([_stamp(label)] if isinstance(label, Path) else [])]
        except ValueError as error:
            problems.append(f"{place}: {row.source}: the label {error}.")
            continue
        except OSError as error:
            problems.append(f"{place}: {row.source}: {error.filename} cannot be read: {error.strerror}.")
            continue
        digest.update(repr((os.path.relpath(row.path, base), row.label, about)).encode())
        samples.append(Sample(row.path, label, row.source))
    if problems:
        more = [f"{place}: {len(problems) - _SHOWN} more problems."] if len(problems) > _SHOWN else []
        raise ConfigError([*problems[:_SHOWN], *more])
    digest.update(repr((classes, characters)).encode())
    return DataSet(spec, tuple(samples), classes, characters, len(rows), digest.hexdigest())


def read_datasets(config: Config, models: Sequence[str]) -> dict[str, DataSet]:
    """Return the data set of each of these models that has one.  Raises: ConfigError with all problems."""
    found: dict[str, DataSet] = {}
    problems: list[str] = []
    for model in models:
        spec = config.models[model].golden.accuracy_spec()
        try:
            if spec is not None:
                found[model] = read_dataset(spec, model)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    if not path.is_file():
        raise OSError(0, "it is not a file", str(path))
    return about.st_size, about.st_mtime_ns


def _rows(place: Path) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the labelled files and the classes' names.  Raises: UsageError."""
    if place.is_dir():
        names = _class_names(place / "classes.txt")
        folders = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            return [_Row(path, None, path.name) for path in _files(place) if path.suffix.lower() == ".npz"], names
        return _folders(folders, names)
    if not place.exists():
        raise UsageError(f"{place} is missing: name a folder, or a CSV file with the columns path and label")
    return list(_csv(place)), _class_names(place.parent / "classes.txt")


def _folders(folders: Sequence[Path], names: tuple[str, ...]) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the files of one folder per class: numbered by their names, by classes.txt, or in the order of the alphabet."""
    words = [folder.name for folder in folders]
    if unknown := [word for word in words if names and word not in names and not word.isdecimal()]:
        raise UsageError(f"the folder {unknown[0]} is not a class of classes.txt")
    if not names and not all(word.isdecimal() for word in words):
        names = tuple(words)
    rows = [_Row(path, folder.name, f"{folder.name}/{path.name}") for folder in folders for path in _files(folder)]
    return rows, names


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _KINDS and path.is_file())
    if len(found) > _MOST_SAMPLES:
        raise UsageError(f"{folder} holds {len(found)} files; {_MOST_SAMPLES} are read")
    return found


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if len(names) > _MOST_CLASSES:
        raise UsageError(f"{path} names {len(names)} classes; {_MOST_CLASSES} are read")
    return names


def _csv(path: Path) -> Iterator[_Row]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise UsageError(f"{path}: the first line must name the columns path and label")
            for number, row in enumerate(reader):
                if number >= _MOST_SAMPLES:
                    raise UsageError(f"{path} has more than {_MOST_SAMPLES} lines")
                name, label = row["path"] or "", row["label"]
                where = f"{path.name}:{reader.line_num}"
                if not name:
                    raise UsageError(f"{where}: the path is missing")
                inside = not label and name.lower().endswith(".npz")
                yield _Row(path.parent / name, None if inside else label or "", where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
