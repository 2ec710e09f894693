"""What the simulated operators' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefleet_controller.state import State


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty state to copy: making one anew costs its migrations."""
    where = tmp_path_factory.mktemp("state") / "template.db"
    State.open(where).close()
    return where
