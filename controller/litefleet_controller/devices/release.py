"""A release for one kind of device, as it is built, stored and sent; what reads the state loads no transport for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from litefleet_agent.findings import Finding
from litefleet_agent.formats.engine_settings import EngineSettings


@dataclass(frozen=True)
class Release:
    """A release for one kind of device: its manifest, and the files behind its hashes.

    The state stores the fields down to `version`, so that a resumed rollout sends the very same bytes, and `golden_power`.
    One without an `id` could not be built; its `findings` say why.
    """

    id: str = ""
    model: str = ""
    kind: str = ""  # "x86_64 cp311 glibc 2.36": the devices it is for
    manifest: Mapping[str, Any] = field(default_factory=dict)
    artifact: str = ""  # SHA-256 of the .nb
    blobs: Mapping[str, Path] = field(default_factory=dict)  # SHA-256 -> file on the controller
    runtime_key: str = "system"
    runtime_blob: tuple[str, Path] | None = None
    runtime_size: int = 0  # bytes, unpacked
    recipe: str = ""  # SHA-256 over all that decides the release but the device: source, options, goldens, versions
    special: bool = False  # built for a device with a file or runtime of its own: not for others of its kind
    signed: Mapping[str, object] | None = None  # {"seal": {...}, "signature": "..."}
    version: str = field(
        default="", compare=False
    )  # for people; "" = litefleet.yaml names none, and it is not stored yet
    findings: tuple[Finding, ...] = ()  # static ones; an error among them means: do not push
    # Why no runtime could be brought: the device's own is tried, and these are reported if it has none.
    no_runtime: tuple[Finding, ...] = ()
    # How each output is compared ({name, compare, why}), and what the golden can tell, for people; not stored.
    outputs: tuple[Mapping[str, str], ...] = field(default=(), compare=False)
    golden: str = field(default="", compare=False)
    runtime_words: str = field(default="", compare=False)  # which library it is, and why this one of several
    trusted_signers: str = field(default="", compare=False)  # what a device comes to trust, at the first release
    # What was measured of the golden (`GoldenPower.to_dict`), for people; stored, None where a release is from before that.
    golden_power: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def asked(self) -> str:
        """What is asked of the engine, for people: "threads 2, power mode LITE_POWER_HIGH"; "" for nothing."""
        try:
            return EngineSettings.parse(self.manifest.get("engine")).words
        except ValueError:  # of a newer litefleet
            return "settings that this litefleet does not know"

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The bytes of its blobs by SHA-256, looked up once for all devices."""
        return {sha: path.stat().st_size for sha, path in self.blobs.items()}

    @property
    def files(self) -> Mapping[str, Path]:
        """All its files by SHA-256, the runtime's included."""
        return {**self.blobs, **(dict([self.runtime_blob]) if self.runtime_blob else {})}
