"""How a picture becomes a model's input: `models.NAME.preprocess` of litefleet.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from .base import Strict

Side = Annotated[int, Field(ge=1, le=16384, strict=True)]


def _fraction(value: object) -> object:
    """Return 1/255 as a number; anything else as it is."""
    if not isinstance(value, str) or "/" not in value:
        return value
    above, below = value.split("/", 1)
    try:
        return float(above) / float(below)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"'{value}' is no number and no fraction such as 1/255") from None


Factor = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]


# how a size is given -> the keys that it takes, and those that may come with them
_WAYS: dict[str, tuple[set[str], set[str]]] = {
    "longest_side": ({"longest_side"}, {"multiple_of"}),
    "shortest_side": ({"shortest_side"}, {"multiple_of"}),
    "max_width": ({"height", "max_width"}, {"keep_ratio", "pad"}),
    "width": ({"height", "width"}, {"keep_ratio"}),
}


class ResizeConfig(Strict):
    """A picture's size: given, or by height with a free width, or by its longest side (at most) or shortest (at least)."""

    height: Side | None = None
    width: Side | None = None
    max_width: Side | None = None
    longest_side: Side | None = None
    shortest_side: Side | None = None
    multiple_of: Annotated[int, Field(ge=1, le=1024, strict=True)] | None = None
    keep_ratio: bool | None = None
    pad: Literal["right", "none"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        if len(value) != 2:
            raise ValueError("a list is [HEIGHT, WIDTH]")
        return {"height": value[0], "width": value[1]}

    @model_validator(mode="after")
    def _one_way(self) -> ResizeConfig:
        given = self.model_fields_set
        way = next((name for name, keys in _WAYS.items() if keys[0] <= given), None)
        if way is None:
            raise ValueError("give [HEIGHT, WIDTH], `height` with `max_width`, `longest_side`, or `shortest_side`")
        if unfit := sorted(given - _WAYS[way][0] - _WAYS[way][1]):
            raise ValueError(f"`{unfit[0]}` does not go with `{way}`")
        if way == "max_width" and self.keep_ratio is False:
            raise ValueError("`max_width` keeps the ratio: write `width` to have it stretched")
        return self


class PreprocessConfig(Strict):
    """(pixel * scale - mean) / std, after the size and the order of the colours."""

    resize: ResizeConfig | None = None
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: Factor = 1 / 255
    mean: tuple[Factor, ...] = ()
    std: tuple[Factor, ...] = ()
    dtype: Literal["float32", "uint8"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers_stay(cls, value: object) -> object:
        """Keep pixels from 0 to 255 where the model takes these."""
        if isinstance(value, dict) and value.get("dtype") == "uint8" and "scale" not in value:
            return {**value, "scale": 1}
        return value

    @model_validator(mode="after")
    def _channels(self) -> PreprocessConfig:
        count = 1 if self.color == "gray" else 3
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) not in (1, count):
                raise ValueError(f"`{name}` has {len(values)} numbers; {self.color} has {count} channels")
        if any(value == 0 for value in self.std):
            raise ValueError("`std` holds 0, and is divided by")
        return self
