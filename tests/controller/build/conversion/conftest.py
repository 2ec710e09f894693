"""The real converters, and an empty store for what they make."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.toolchain import Toolchains

from tests.conftest import CACHE


@pytest.fixture
def toolchains() -> Toolchains:
    return Toolchains(CACHE / "toolchains")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")
