"""Reads a picture of text with PP-OCR's three models on a device, and prints the text.

    python ocr.py PICTURE [--config litefleet.yaml] [--device NAME] [--keys ppocr_keys_v1.txt]

The device runs the models; this program prepares the pictures, as `preprocess:` of each model declares, and reads the answers:
det gives a map of where text is, cls which way up a line is, rec its characters.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from litefleet import (
    Case,
    Inference,
    LitefleetError,
    PreprocessConfig,
    Project,
    UsageError,
    open_project,
    prepare,
    read_picture,
)
from PIL import Image

Array = np.ndarray[Any, Any]

TEXT = 0.3  # a pixel whose score is above belongs to text
SURE = 0.5  # a region whose mean score is below is none
GROWN = 1.6  # det marks the middle of a line: how much larger the line is
SMALLEST = 3  # pixels of a region's shorter side
LEGIBLE = 0.5  # a line whose characters are less sure on average is left out
TURNED = 0.9  # from this score on a line is taken to be upside down
WIDEST = 3200  # pixels of a line for rec, at its height of 48


@dataclass(frozen=True)
class Region:
    """A rectangle with text: its corners (x, y) from the text's top left one on, clockwise."""

    corners: Array  # float [4, 2]

    @property
    def begin(self) -> Array:
        """The middle of the edge where reading begins (x, y)."""
        middle: Array = (self.corners[0] + self.corners[3]) / 2
        return middle

    @property
    def width(self) -> float:
        """How long the text is, in pixels."""
        return float(np.hypot(*(self.corners[1] - self.corners[0])))

    @property
    def height(self) -> float:
        """How high the text is, in pixels."""
        return float(np.hypot(*(self.corners[3] - self.corners[0])))

    def cut(self, picture: Image.Image) -> Image.Image:
        """Return the text, level."""
        top_left, top_right, bottom_right, bottom_left = self.corners
        width, height = max(1, round(self.width)), max(1, round(self.height))
        quad = np.concatenate([top_left, bottom_left, bottom_right, top_right]).tolist()
        cut = picture.transform((width, height), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
        return cut.transpose(Image.Transpose.ROTATE_90) if height >= 1.5 * width else cut


# --- what the models say


def regions_of(scores: Array, size: tuple[int, int]) -> list[Region]:
    """Return where det's map [H, W] sees text, in a picture of `size` (width, height), in the order of reading."""
    labels = components(scores > TEXT)
    scale = np.array([size[0] / scores.shape[1], size[1] / scores.shape[0]])
    found = []
    for rows, columns in pixels_of(labels):
        corners = rectangle(columns, rows)
        if corners is not None and float(scores[rows, columns].mean()) >= SURE:
            found.append(Region(np.clip(corners * scale, 0, np.array(size) - 1)))
    return in_reading_order(found)


def components(mask: Array) -> Array:
    """Return an int array like `mask` in which touching pixels share a number; 0 is the ground.

    A flood of the largest number, row by row and back, until nothing changes.
    """
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = labels.copy()
        for axis in (0, 1):
            for turn in (1, -1):
                labels = swept(labels, mask, axis, turn)
        if np.array_equal(before, labels):
            return labels


def swept(labels: Array, mask: Array, axis: int, turn: int) -> Array:
    """Return the labels after each pixel has taken over the larger number of the one before it along `axis`."""
    moved = np.moveaxis(labels, axis, 0)[::turn].copy()
    inside = np.moveaxis(mask, axis, 0)[::turn]
    for at in range(1, len(moved)):
        moved[at] = np.where(inside[at], np.maximum(moved[at], moved[at - 1]), 0)
    return np.moveaxis(moved[::turn], 0, axis)


def pixels_of(labels: Array) -> list[tuple[Array, Array]]:
    """Return (rows, columns) of each component."""
    rows, columns = np.nonzero(labels)
    order = np.argsort(labels[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    ends = np.flatnonzero(np.diff(labels[rows, columns])) + 1
    return list(zip(np.split(rows, ends), np.split(columns, ends), strict=True)) if len(rows) else []


def rectangle(x: Array, y: Array) -> Array | None:
    """Return the corners of the grown rectangle around pixels, along the direction in which they lie; None if too small."""
    points = np.stack([x, y], 1).astype(np.float64)
    middle = points.mean(0)
    axes = np.linalg.eigh(np.cov((points - middle).T) if len(points) > 1 else np.eye(2))[1]
    along = axes[:, 1] if abs(axes[0, 1]) >= abs(axes[1, 1]) else axes[:, 0]  # the one nearer to level
    along = along if along[0] > 0 else -along
    across = np.array([-along[1], along[0]])
    spread = (points - middle) @ np.stack([along, across], 1)
    low, high = spread.min(0) - 0.5, spread.max(0) + 0.5
    width, height = high - low
    if min(width, height) < SMALLEST:
        return None
    more = width * height * GROWN / (2 * (width + height))
    (left, top), (right, bottom) = low - more, high + more
    return np.array(
        [middle + u * along + v * across for u, v in ((left, top), (right, top), (right, bottom), (left, bottom))]
    )


def in_reading_order(regions: Sequence[Region]) -> list[Region]:
    """Return regions from top to bottom; those that begin at about the same height from left to right."""
    ordered = sorted(regions, key=lambda region: region.begin[1])
    for at in range(1, len(ordered)):
        place = at
        while place and _swapped(ordered[place - 1], ordered[place]):
            ordered[place - 1], ordered[place] = ordered[place], ordered[place - 1]
            place -= 1
    return ordered


def _swapped(first: Region, second: Region) -> bool:
    level = abs(first.begin[1] - second.begin[1]) < second.height / 4
    return bool(level and second.begin[0] < first.begin[0])


def spelled(scores: Array, keys: Sequence[str]) -> tuple[str, float]:
    """Return rec's characters [T, K] and how sure it is: repeats are one, number 0 stands between characters (CTC)."""
    best = scores.argmax(1)
    kept = (best > 0) & np.concatenate([[True], best[1:] != best[:-1]])
    text = "".join(keys[number - 1] for number in best[kept])
    return text, float(scores.max(1)[kept].mean()) if kept.any() else 0.0


# --- the way to the device


class Reader:
    """Asks one device."""

    def __init__(self, project: Project, inference: Inference) -> None:
        self._project, self._inference = project, inference

    def _how(self, model: str) -> PreprocessConfig:
        how = self._project.config.models[model].preprocess if model in self._project.config.models else None
        if how is None:
            raise UsageError(f"litefleet.yaml needs the model '{model}' with `preprocess:`, as docs/infer.md shows")
        return how

    async def ask(self, model: str, pictures: Sequence[Array]) -> Array:
        """Return the model's one output for pictures of one size, as one batch."""
        (tensor,) = (await self._inference.tensors(model))[0]
        (answer,) = await self._inference.run(model, [Case(model, {tensor.name: np.concatenate(pictures)})])
        if not answer.cases or not answer.cases[0].outputs:
            raise LitefleetError(f"{answer.device}: {answer.sentence}")
        (output,) = answer.cases[0].outputs.values()
        return output

    async def read(self, picture: Image.Image, keys: Sequence[str]) -> list[tuple[str, float]]:
        """Return each line of text and how sure it is, in the order of reading."""
        scores = await self.ask("det", [prepare(np.asarray(picture), self._how("det"))])
        cuts = [region.cut(picture) for region in regions_of(scores[0, 0], picture.size)]
        if not cuts:
            return []
        ways = await self.ask("cls", [prepare(np.asarray(cut), self._how("cls")) for cut in cuts])
        upright = [cut.rotate(180) if way[1] >= TURNED else cut for cut, way in zip(cuts, ways, strict=True)]
        lines = await self.ask("rec", [prepare(np.asarray(cut), self._wide_enough(upright)) for cut in upright])
        return [read for read in (spelled(line, keys) for line in lines) if read[1] >= LEGIBLE]

    def _wide_enough(self, cuts: Sequence[Image.Image]) -> PreprocessConfig:
        """Return how rec's lines are prepared, with room for the longest: all are as wide as that."""
        how = self._how("rec")
        if how.resize is None or how.resize.height is None or how.resize.max_width is None:
            raise UsageError("models.rec.preprocess.resize needs `height` and `max_width`, as docs/infer.md shows")
        longest = max(cut.width / cut.height for cut in cuts)
        width = min(WIDEST, max(how.resize.max_width, int(how.resize.height * longest) + 1))
        return how.model_copy(update={"resize": how.resize.model_copy(update={"max_width": width})})


async def read_text(picture: Path, config: Path, device: str, keys: Sequence[str]) -> list[tuple[str, float]]:
    """Return the lines of a picture, read on one device."""
    project = open_project(config, limit=device)
    if len(project.devices) > 1:
        raise UsageError(f"name one device with --device: {', '.join(d.name for d in project.devices[:10])}")
    async with Inference(project) as inference:
        return await Reader(project, inference).read(Image.fromarray(read_picture(picture)), keys)


def main() -> int:
    """Read the picture that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--config", type=Path, default=Path("litefleet.yaml"))
    parser.add_argument("--device", default="")
    parser.add_argument("--keys", type=Path, default=Path("ppocr_keys_v1.txt"), help="rec's characters, one a line")
    given = parser.parse_args()
    try:
        keys = [*given.keys.read_text(encoding="utf-8").split("\n"), " "]
        lines = asyncio.run(read_text(given.picture, given.config, given.device, [key for key in keys if key]))
    except (LitefleetError, OSError) as error:
        print(f"ocr: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    for text, sure in lines:
        print(f"{sure:.2f}  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
