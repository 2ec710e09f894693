"""`python:` in litefleet.yaml: where the Python comes from that is brought to devices without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .base import ArchName, FilePath

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class PythonsConfig(BaseModel):
    """A mirror of Debian's packages, and archives or folders of one's own by architecture; by default the machine's apt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: str = ""  # the URL that `dists/` and `pool/` are under
    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9/.-]{0,60}$")] = "bookworm"
    keyring: FilePath = DEBIAN_KEYRING  # of the keys that the mirror's index is signed with
    own: dict[ArchName, FilePath] = {}

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
