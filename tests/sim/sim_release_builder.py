"""Releases for simulated devices: tiny files, real manifests and hashes, one release for each model, version and kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding
from litefleet_agent.releases.store import release_id
from litefleet_controller.common.errors import FindingError
from litefleet_controller.devices.deliver import kind_of
from litefleet_controller.devices.release import Release
from litefleet_inventory.model import Device

__all__ = ["SimSupply"]

Refuses = Callable[[str, Facts], Finding | None]  # model, facts -> why nothing can be made for such a device


def _nothing(model: str, facts: Facts) -> Finding | None:
    return None


def _recipe(model: str, version: str) -> str:
    return hashlib.sha256(f"{model} {version}".encode()).hexdigest()


class SimSupply:
    """A Supplier.  `versions` says what each model is at; a test sets it anew for the next rollout."""

    def __init__(self, folder: Path, versions: Mapping[str, str], refuses: Refuses = _nothing) -> None:
        self.versions = dict(versions)
        self.refuses = refuses
        self.engine: dict[str, Any] = {}  # what releases ask of the engine, such as {"threads": 2}
        self.made: dict[tuple[str, str, str], Release] = {}
        self._folder = folder
        self._versions: dict[str, str] = {}

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        """Return the release of `model` at its version for devices like this one; FindingError where it is refused."""
        return self.release(model, self.versions[model], facts)

    async def recipe(self, model: str) -> str:
        """Return the recipe of `model` at its version."""
        return _recipe(model, self.versions[model])

    def release(self, model: str, version: str, facts: Facts) -> Release:
        """Return a release of any version."""
        if (found := self.refuses(model, facts)) is not None:
            raise FindingError([found])
        kind = kind_of(facts)
        key = (model, version, kind)
        if key not in self.made:
            self.made[key] = self._make(model, version, facts.arch, kind)
            self._versions[self.made[key].id] = version
        return self.made[key]

    def version_of(self, release: str) -> str:
        """Return the version that a release is of; "" for none of ours."""
        return self._versions.get(release, "")

    def _make(self, model: str, version: str, arch: str, kind: str) -> Release:
        nb, nb_path = self._file(f"nb of {model} {version} for {arch}")
        golden, golden_path = self._file(f"golden of {model}")
        bundle = self._file(f"runtime for {kind}")
        runtime = hashlib.sha256(kind.encode()).hexdigest()[:32]
        manifest: dict[str, Any] = {
            "schema": 1,
            "model": {"name": model, "version": version, "nb": nb, "opt_version": "v2.13-rc", "variant": {}},
            "golden": [golden],
            "runtime": runtime,
            "verify": {"runs": 5, "warmup": 1},
            **({"engine": self.engine} if self.engine else {}),
        }
        return Release(
            id=release_id(manifest),
            model=model,
            kind=kind,
            manifest=manifest,
            artifact=nb,
            blobs={nb: nb_path, golden: golden_path},
            runtime_key=runtime,
            runtime_blob=bundle,
            runtime_size=4096,
            recipe=_recipe(model, version),
        )

    def _file(self, text: str) -> tuple[str, Path]:
        """Write a small file once and return its SHA-256 and path."""
        data = text.encode() * 8
        sha = hashlib.sha256(data).hexdigest()
        path = self._folder / sha
        if not path.exists():
            path.write_bytes(data)
        return sha, path
