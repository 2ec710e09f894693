"""`runtimes:` and `python:` of litefleet.yaml: which Paddle-Lite, and which Python, a kind of device gets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .base import ArchName, FilePath, Strict, TextOrMapping, Version
from .choices import RuntimeChoice

_RUNTIME_FILES = ("wheel", "folder", "archive", "library")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class RuntimeConfig(TextOrMapping):
    """The runtime for a kind of device: published wheels, one wheel, a folder, a release archive of Paddle-Lite's C++ library,
    that library alone, or `system` for the device's own.
    """

    paddlelite: Version | None = None
    numpy: Version | None = None
    wheel: FilePath | None = None
    folder: FilePath | None = None
    system: Literal[True] | None = None
    archive: FilePath | None = None
    library: FilePath | None = None

    @classmethod
    def _spelled(cls, text: str) -> dict[str, object]:
        if text != "system":
            raise ValueError(
                f"'{text}' is no runtime: write `system`, or a mapping with paddlelite, {', '.join(_RUNTIME_FILES[:-1])} "
                f"or {_RUNTIME_FILES[-1]}"
            )
        return {"system": True}

    @model_validator(mode="after")
    def _one_kind(self) -> RuntimeConfig:
        kinds = [k for k in ("paddlelite", *_RUNTIME_FILES, "system") if getattr(self, k) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} cannot both be the runtime: name one, or write a list of runtimes")
        if not kinds and self.numpy is None:
            raise ValueError(f"name one of paddlelite, {', '.join(_RUNTIME_FILES)}, or write `system`")
        if self.numpy is not None and kinds and kinds[0] in ("archive", "library"):
            raise ValueError(f"numpy cannot be chosen beside `{kinds[0]}`: a C++ library needs none")
        if self.numpy is not None and kinds and kinds[0] in ("folder", "system"):
            raise ValueError(f"numpy cannot be chosen for a {kinds[0]} runtime: it brings its own")
        return self

    def choice(self, default_version: str) -> RuntimeChoice:
        """Return the choice that bundles are built from; `default_version` is the toolchain's Paddle-Lite."""
        wanted = "<2" if self.numpy is None else self.numpy
        numpy = f"numpy{wanted}" if wanted[:1] in "<>=!~" else f"numpy=={wanted}"
        if self.system:
            return RuntimeChoice("system")
        if self.wheel is not None:
            return RuntimeChoice("wheel", numpy=numpy, path=self.wheel)
        if self.folder is not None:
            return RuntimeChoice("folder", path=self.folder)
        library = self.archive or self.library
        if library is not None:
            return RuntimeChoice("library", path=library)
        return RuntimeChoice("wheels", self.paddlelite or default_version, numpy)


_MOST = 20  # runtimes for one kind of device


def _listed(value: object) -> object:
    """Return one runtime as a list of one.  Raises: ValueError for a list of none or of too many."""
    listed = value if isinstance(value, list | tuple) else [value]
    if not 0 < len(listed) <= _MOST:
        raise ValueError(f"{len(listed)} runtimes are listed; name 1 to {_MOST}")
    return listed


class _OneOrSeveral:
    """The JSON schema of a list that may also be written as its only item."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(core)
        return {"anyOf": [several["items"], several]}


# One runtime, or several for one kind of device: each device gets the newest that fits it.
RuntimesConfig = Annotated[tuple[RuntimeConfig, ...], BeforeValidator(_listed), _OneOrSeveral]


class PythonsConfig(Strict):
    """A mirror of Debian's packages, and archives or folders of one's own by architecture; by default the machine's apt."""

    mirror: str = ""  # the URL that `dists/` and `pool/` are under
    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9/.-]{0,60}$")] = "bookworm"
    keyring: FilePath = DEBIAN_KEYRING  # of the keys that the mirror's index is signed with
    own: dict[ArchName, FilePath] = Field(default={})

    @field_validator("mirror")
    @classmethod
    def _url(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://", "file:///")):
            raise ValueError("the mirror is a URL: https://…, http://… or file:///…")
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "no password here: a mirror that asks for one is reached through a proxy, or copied to a folder"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _of_a_mirror(self) -> PythonsConfig:
        alone = sorted(self.model_fields_set & {"suite", "keyring"})
        if alone and not self.mirror:
            raise ValueError(f"`{alone[0]}` goes with `mirror:`")
        return self
