"""Goldens made by PaddlePaddle, once a session, and `verify` with the real Paddle-Lite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.lite import Verify, make_goldens, verifier


@pytest.fixture(scope="session")
def goldens(
    paddle_python: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("goldens")
    return {name: make_goldens(paddle_python, models[name], name, folder) for name in ("cls", "det", "rec")}


@pytest.fixture
def check(lite_python: Path, tmp_path: Path) -> Verify:
    return verifier(lite_python, tmp_path)
