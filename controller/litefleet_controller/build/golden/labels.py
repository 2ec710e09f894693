"""Reads the labels of a data set, as a CSV file or an .npz holds them, into what each metric compares with.

The written form of a label, by metric:

    top1   a class: its number, or its name where the data set names its classes
    map50  boxes in the picture's pixels, "CLASS X1 Y1 X2 Y2; CLASS X1 Y1 X2 Y2"; nothing for a picture without objects
    iou    the path of a mask: a .png whose pixels are class numbers, or a .npy of integers; 255 is not counted
    exact  the numbers that the output must hold, "0 2 3 3 3"
    cer    the text, or with no list of characters the class numbers, "17 4 4 9"

An .npz that has no label in a CSV file holds its label in an array named `label`: integers, for map50 [N, 5].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UsageError
from ...common.lazy import numpy as np
from ...config.choices import MetricName
from .files import LIMIT_BYTES, UNREADABLE, Array

IGNORED = 255  # the class of a mask's pixels that are not counted, as in Pascal VOC and Cityscapes
_MOST_BOXES = 10_000
_MOST_ITEMS = 1_000_000
_MOST_CHARACTERS = 100_000
_MOST_PIXELS = 64_000_000


class Boxes(NamedTuple):
    """The objects of one picture: classes, integers [N], and corners x1 y1 x2 y2, float64 [N, 4]."""

    classes: Array
    corners: Array


# top1 and exact: int64 [N]; map50: Boxes; iou: the mask, integers [H, W]; cer: the text or the class numbers
Label = Array | Boxes | str | tuple[int, ...]


def parse_label(text: str, metric: MetricName, classes: Sequence[str], folder: Path, characters: bool) -> Label | Path:
    """Return a label as a CSV file or a folder's name gives it; of a mask, its path.

    `characters` says that a list of characters is configured.  Raises: ValueError, a part of a sentence.
    """
    text = text if metric == "cer" and characters else text.strip()
    if metric == "map50":
        return _boxes([_row(part, classes) for part in text.split(";") if part.strip()])
    if metric == "iou":
        if not text:
            raise ValueError("is empty, and iou needs the path of a mask")
        return folder / text
    if metric == "cer":
        return text if characters else tuple(_integers(text))
    if metric == "top1":
        return np.array([_class(text, classes)], np.int64)
    return np.array(_integers(text), np.int64)


def _class(word: str, classes: Sequence[str]) -> int:
    if word in classes:
        return classes.index(word)
    if word.isdecimal() and len(word) <= 9:
        return int(word)
    known = f"; the classes are {', '.join(classes[:10])}" if classes else ""
    raise ValueError(f"'{word[:40]}' is not the number of a class{known}")


def _integers(text: str) -> list[int]:
    words = text.split()
    if not words or len(words) > _MOST_ITEMS or not all(w.removeprefix("-").isdecimal() and len(w) < 18 for w in words):
        raise ValueError(f"'{text[:40]}' is not a row of whole numbers such as 0 2 3 3 3")
    return [int(word) for word in words]


def _row(part: str, classes: Sequence[str]) -> tuple[int, list[float]]:
    words = part.split()
    try:
        if len(words) < 5:
            raise ValueError
        corners = [float(word) for word in words[-4:]]
    except ValueError:
        raise ValueError(f"'{part.strip()[:60]}' is not a box: write CLASS X1 Y1 X2 Y2") from None
    return _class(" ".join(words[:-4]), classes), corners


def _boxes(rows: Sequence[tuple[int, list[float]]]) -> Boxes:
    if len(rows) > _MOST_BOXES:
        raise ValueError(f"holds {len(rows)} boxes; {_MOST_BOXES} are read")
    corners = np.array([row for _, row in rows], np.float64).reshape(-1, 4)
    if not np.isfinite(corners).all() or (corners[:, 2:] < corners[:, :2]).any():
        raise ValueError("holds a box whose second corner is not right of and below the first")
    return Boxes(np.array([number for number, _ in rows], np.int64), corners)


def label_of_array(value: Array, metric: MetricName) -> Label:
    """Return the label that an .npz holds.  Raises: ValueError, a part of a sentence."""
    if metric == "map50":
        if value.ndim != 2 or value.shape[1] != 5 or value.dtype.kind not in "fiu":
            raise ValueError(f"is {value.dtype.name} {list(value.shape)}; boxes are [N, 5]: class, x1, y1, x2, y2")
        return _boxes([(int(row[0]), list(map(float, row[1:]))) for row in value])
    if value.dtype.kind not in "iu" or value.size > (_MOST_PIXELS if metric == "iou" else _MOST_ITEMS):
        raise ValueError(f"is {value.dtype.name} {list(value.shape)}; {metric} takes whole numbers")
    if metric == "iou":
        return _flat_mask(value)
    row = value.astype(np.int64).ravel()
    return tuple(row.tolist()) if metric == "cer" else row


def _flat_mask(value: Array) -> Array:
    mask = (
        value.reshape(value.shape[-2:])
        if value.ndim >= 2 and value.size == value.shape[-1] * value.shape[-2]
        else value
    )
    if mask.ndim != 2:
        raise ValueError(f"has dims {list(value.shape)}; a mask has [H, W]")
    return mask


def read_mask(path: Path) -> Array:
    """Return a mask's class numbers, [H, W].  Raises: UsageError in one sentence."""
    from PIL import Image

    try:
        if path.suffix.lower() == ".npy":
            if path.stat().st_size > LIMIT_BYTES:
                raise UsageError(f"{path} is larger than {LIMIT_BYTES} bytes")
            value = np.load(path, allow_pickle=False)
            return _whole(path, value)
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UsageError(f"{path} has {picture.width} x {picture.height} pixels; {_MOST_PIXELS} are read")
            if picture.mode not in ("L", "P", "1", "I", "I;16"):
                raise UsageError(f"{path} is a picture in colours; a mask's pixels are class numbers (modes L and P)")
            return np.asarray(picture).astype(np.int64)
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing") from error
    except (*UNREADABLE, SyntaxError) as error:
        raise UsageError(f"{path} is not a readable mask (.png or .npy)") from error


def _whole(path: Path, value: Array) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub":
        raise UsageError(f"{path} does not hold whole numbers")
    try:
        return _flat_mask(value)
    except ValueError as error:
        raise UsageError(f"{path} {error}") from error


def read_characters(path: Path) -> tuple[str, ...]:
    """Return a list of characters, one per line.  Raises: UsageError in one sentence."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"golden.characters: {path} cannot be read: {error}") from error
    if len(lines) > _MOST_CHARACTERS:
        raise UsageError(f"golden.characters: {path} has {len(lines)} lines; {_MOST_CHARACTERS} are read")
    return tuple(line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines))
