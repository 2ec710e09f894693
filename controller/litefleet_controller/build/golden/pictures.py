"""Turns a picture into a model's input as `preprocess` in litefleet.yaml declares.  Pure, except `read_picture`."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.errors import UsageError
from ...common.lazy import numpy as np
from ...config.preprocess import PreprocessConfig, ResizeConfig
from .files import Array

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MOST_PIXELS = 64_000_000


def read_picture(path: Path) -> Array:
    """Return a picture's pixels, uint8 [height, width, 3], RGB, upright, on white; UsageError in one sentence."""
    from PIL import Image, ImageOps  # loaded only where a picture is given: it is slow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is lower
            opened = Image.open(path, formats=_FORMATS)
        with opened as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UsageError(f"{path} has {picture.width} x {picture.height} pixels; {_MOST_PIXELS} are read")
            return np.asarray(_on_white(ImageOps.exif_transpose(picture)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no PNG, JPEG, BMP or WebP"
        raise UsageError(f"cannot read {path} as a picture: {reason}") from error


def _on_white(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    own = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", own.size, "white"), own).convert("RGB")


def prepare(pixels: Array, how: PreprocessConfig) -> Array:
    """Return RGB pixels, uint8 [height, width, 3], as an input of one picture: [1, C, H, W] or [1, H, W, C].

    What padding adds is 0 in the input itself.
    """
    values: Array = pixels.astype(np.float32)
    if how.color == "gray":  # ITU-R 601, as Pillow and OpenCV weigh
        values = values @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif how.color == "bgr":
        values = values[:, :, ::-1]
    own, frame = _sizes(values.shape[0], values.shape[1], how.resize)
    if frame[0] * frame[1] > _MOST_PIXELS:
        raise UsageError(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels would become {frame[1]} x {frame[0]}; "
            f"at most {_MOST_PIXELS} pixels are made: cut it, or change `preprocess.resize`"
        )
    values = stretched(values, *own)
    values = values * np.float32(how.scale)
    values = (values - np.array(how.mean or (0.0,), np.float32)) / np.array(how.std or (1.0,), np.float32)
    framed = np.zeros((*frame, values.shape[2]), np.float32)
    framed[: values.shape[0], : values.shape[1]] = values
    if how.dtype == "uint8":
        framed = np.clip(np.rint(framed), 0, 255).astype(np.uint8)
    if how.layout == "nchw":
        framed = framed.transpose(2, 0, 1)
    return np.ascontiguousarray(framed[np.newaxis])


def size_in_input(height: int, width: int, how: PreprocessConfig) -> tuple[int, int]:
    """Return the (height, width) that a picture of this size has in the model's input, without padding."""
    return _sizes(height, width, how.resize)[0]


def _sizes(height: int, width: int, how: ResizeConfig | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the picture's new (height, width), and the one that padding fills up to."""
    if how is None:
        return (height, width), (height, width)
    if how.longest_side is not None or how.shortest_side is not None:
        size = _by_side(height, width, how)
        return size, size
    assert how.height is not None
    if how.max_width is not None:
        own = how.height, max(1, min(how.max_width, math.ceil(how.height * width / height)))
        return own, own if how.pad == "none" else (how.height, how.max_width)
    assert how.width is not None
    frame = how.height, how.width
    if not how.keep_ratio:
        return frame, frame
    ratio = min(how.height / height, how.width / width)
    return (max(1, round(height * ratio)), max(1, round(width * ratio))), frame


def _by_side(height: int, width: int, how: ResizeConfig) -> tuple[int, int]:
    """Return a size whose longest side is at most as long as wanted, or the shortest at least, but for rounding."""
    if how.longest_side is not None:
        ratio = min(1.0, how.longest_side / max(height, width))
    else:
        ratio = max(1.0, (how.shortest_side or 1) / min(height, width))
    step = how.multiple_of or 32
    rounded = [max(step, round(int(side * ratio) / step) * step) for side in (height, width)]
    return rounded[0], rounded[1]


def stretched(values: Array, height: int, width: int) -> Array:
    """Return float32 [h, w, C] in another size: bilinear between pixels' centres, as OpenCV's INTER_LINEAR does."""
    if values.shape[:2] == (height, width):
        return values
    top, bottom, down = _neighbours(values.shape[0], height)
    left, right, across = _neighbours(values.shape[1], width)
    rows = values[top] + (values[bottom] - values[top]) * down[:, np.newaxis, np.newaxis]
    made: Array = rows[:, left] + (rows[:, right] - rows[:, left]) * across[np.newaxis, :, np.newaxis]
    return made.astype(np.float32, copy=False)


def _neighbours(size: int, wanted: int) -> tuple[Array, Array, Array]:
    """Return, for each new position, the two old ones that it lies between and how far it is from the first."""
    at = np.clip((np.arange(wanted) + 0.5) * (size / wanted) - 0.5, 0, size - 1)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, size - 1), (at - first).astype(np.float32)
