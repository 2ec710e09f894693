"""What `models.NAME.inputs` of litefleet.yaml states of one input: its sizes, its value, its range, its sequences."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .base import Strict
from .choices import InputSpec, Numbers

Dim = Annotated[int, Field(ge=1, strict=True)]
_MOST_NUMBERS = 10_000


def _numbers(value: object, depth: int = 0) -> Numbers:
    """Return a number, or nested lists of numbers as tuples.  Raises: ValueError for anything else."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list | tuple) and depth < 8 and len(value) <= _MOST_NUMBERS:
        return tuple(_numbers(one, depth + 1) for one in value)
    raise ValueError(f"'{value}' is no number, and no list of numbers")


class InputConfig(Strict):
    """One input; written as a list of sizes, as one number (its value), or as a mapping."""

    plain: tuple[float, ...] = Field(default=(), exclude=True)
    dims: tuple[Dim, ...] = ()
    value: object = None
    range: tuple[float, float] | None = None
    lengths: Annotated[tuple[Dim, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, given: object) -> object:
        if isinstance(given, int | float) and not isinstance(given, bool):
            return {"value": given}
        if isinstance(given, list | tuple):
            numbers = [n for n in given if isinstance(n, int | float) and not isinstance(n, bool)]
            if given and len(numbers) == len(given):
                floats = any(isinstance(n, float) for n in numbers)  # a float is no size: it is a value
                return {"plain": numbers} if floats else {"dims": given, "plain": numbers}
            return {"dims": given}
        if isinstance(given, dict) and "plain" in given:
            raise ValueError("unknown key 'plain'; known are: dims, value, range, lengths")
        return given

    @model_validator(mode="after")
    def _one_way(self) -> InputConfig:
        if self.value is not None:
            _numbers(self.value)
            if self.range is not None:
                raise ValueError("give `value` or `range`, not both")
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError(f"the range {list(self.range)} ends before it begins")
        if not self.model_fields_set:
            raise ValueError("give sizes as a list, one number, or some of dims, value, range, lengths")
        return self

    def spec(self) -> InputSpec:
        """Return what the build makes inputs from."""
        value = None if self.value is None else _numbers(self.value)
        if self.plain:
            return InputSpec(plain=tuple(self.plain))
        return InputSpec((), self.dims, value, self.range, self.lengths)

    @model_serializer(mode="wrap")
    def _short(self, plainly: SerializerFunctionWrapHandler) -> object:
        """Return a list as it was written, so that earlier configurations keep their recipe."""
        if self.plain:
            return [int(n) if n == int(n) else n for n in self.plain]
        return {key: value for key, value in plainly(self).items() if value not in (None, (), [])}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of all three spellings."""
        sizes = {"type": "array", "items": {"type": "number"}}
        mapping = handler.resolve_ref_schema(handler(core))
        mapping.get("properties", {}).pop("plain", None)
        return {"anyOf": [sizes, {"type": "number"}, mapping]}
