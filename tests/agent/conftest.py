"""Goldens made by PaddlePaddle, `verify` with the real Paddle-Lite, and a root to serve from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.support.real_paddlelite import Verify, verifier
from tests.agent.support.service_process import OLDEST, Device
from tests.conftest import lite_environment, paddle_goldens


@pytest.fixture(scope="session")
def goldens() -> dict[str, list[Path]]:
    return {name: paddle_goldens(name) for name in ("cls", "det", "rec")}


@pytest.fixture(scope="session")
def serving_python() -> Path:
    """The interpreter that the service runs with, and its workers: the oldest where the tests run with that."""
    return lite_environment("2.12" if OLDEST else "2.13rc0")


@pytest.fixture
def device(tmp_path: Path, serving_python: Path) -> Device:
    """A root to serve from; one thread for each worker, as there are few cores."""
    return Device(tmp_path / "root", serving_python)


@pytest.fixture
def check(lite_python: Path, tmp_path: Path) -> Verify:
    return verifier(lite_python, tmp_path)
