"""What the parts of litefleet.yaml share: strict mappings, a mapping that may be one text, versions, paths, architectures."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated

from litefleet_agent.facts.arch import ARCHES, arch_of
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..common.files import expanded


def as_written(value: object) -> object:
    """Return a version as it was written: YAML reads 2.10 as the number 2.1."""
    return getattr(value, "text", value)


Version = Annotated[str, BeforeValidator(as_written), Field(min_length=1)]


class Strict(BaseModel):
    """A model that rejects unknown keys and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


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


def resolved(path: Path, info: ValidationInfo) -> Path:
    """Return the path, `~` expanded, relative to the configuration's folder."""
    base: Path = (info.context or {}).get("base", Path())
    return base / expanded(path)


def _canonical_arch(name: str) -> str:
    """Return an architecture's canonical name; ValueError when Paddle-Lite has none for it."""
    arch = arch_of(name)
    if arch is None:
        raise ValueError(f"'{name}' is not an architecture that litefleet converts for; known are {', '.join(ARCHES)}")
    return arch.name


FilePath = Annotated[Path, AfterValidator(resolved)]
ArchName = Annotated[str, AfterValidator(_canonical_arch)]
