"""Each error that ends the work on one model has a finding of its own: LF900 is for what nobody knew of."""

from __future__ import annotations

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.common.errors import (
    ConfigError,
    EngineError,
    FindingError,
    FolderError,
    LitefleetError,
    ToolchainError,
    UsageError,
    findings_of,
)

REFUSED = finding("LF206", "no kernel")


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (FindingError([REFUSED, finding("LF204", "new")]), ["LF206", "LF204"]),
        (EngineError("PaddlePaddle could not run the model"), ["LF432"]),
        (ToolchainError("uv is missing"), ["LF702"]),
        (FolderError("/tmp is full"), ["LF704"]),
        (UsageError("a.npz holds y"), ["LF412"]),
        (ConfigError(["models.m.inputs: free dims"]), ["LF412"]),
        (LitefleetError("something else"), ["LF900"]),
    ],
)
def test_an_error_becomes_findings(error: LitefleetError, codes: list[str]) -> None:
    found = findings_of(error)
    assert [one.code for one in found] == codes
    assert codes[0] in ("LF206",) or found[0].observed == str(error)
