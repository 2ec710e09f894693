"""What the models of litefleet.yaml's parts share: strict mappings, a mapping that may be one text, versions."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


def as_written(value: object) -> object:
    """Return a version as it was written: YAML reads 2.10 as the number 2.1."""
    return getattr(value, "text", value)


Version = Annotated[str, BeforeValidator(as_written), Field(min_length=1)]


class Strict(BaseModel):
    """A model that rejects unknown keys and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextOrMapping(Strict):
    """A mapping that may also be written as one text, which `_spelled` turns into the mapping."""

    @classmethod
    @abstractmethod
    def _spelled(cls, text: str) -> dict[str, object]: ...

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return cls._spelled(str(value)) if isinstance(value, str | Path) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of both spellings."""
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(core))]}
