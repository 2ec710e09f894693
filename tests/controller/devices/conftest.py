"""The shells that devices have."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import lacking

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest) -> list[str]:
    argv = SHELLS[request.param]
    found = shutil.which(argv[0])
    if found is None:
        lacking(f"no {argv[0]} on this machine")
    return [found, *argv[1:]]
