"""Real exports of quantisation-aware training, in both forms: what the converter makes of them, and what litefleet says."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.findings import Verdict, decide
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import convert
from litefleet_controller.build.conversion.preflight import find_source, load_source
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.build.golden.make import run_reference
from litefleet_controller.common.errors import LitefleetError

from tests.conftest import _once, _run, paddle_environment
from tests.controller.build.golden_power.test_real import Toolchains as Engines
from tests.zoo.test_zoo import Toolchains as Converters

pytestmark = [pytest.mark.toolchain, pytest.mark.long, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).with_name("export_qat.py")


def exported() -> Path:
    """Return the folder with both exports, made once by PaddlePaddle 2.6.2."""
    with _once(f"qat-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]}") as folder:
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            _run(paddle_environment(), SCRIPT, folder)
            (folder / "done").touch()
        return folder


@pytest.mark.parametrize("name", ["qat", "qat_onnx_format"])
@pytest.mark.parametrize("version", ["2.13rc0", "2.12"])
def test_an_export_of_qat_has_int8_kernels_for_arm_and_is_refused_for_x86(
    name: str, version: str, tmp_path: Path
) -> None:
    folder = exported() / name
    source, store = load_source(folder), ArtifactStore(tmp_path)
    arm = asyncio.run(convert(source, make_variant(source.sha256, "arm", opt_version=version), Converters(), store))
    assert decide(arm.findings) is Verdict.VERIFIED
    assert arm.nb.kernels_by_precision()["int8"] >= 3
    assert arm.nb.weight_dtypes["int8"] == 3
    x86 = asyncio.run(convert(source, make_variant(source.sha256, "x86", opt_version=version), Converters(), store))
    assert decide(x86.findings) is Verdict.REFUSED
    (said,) = [one.observed for one in x86.findings if one.decides]
    print(f"\n{name} {version}: {said}")
    assert "of a quantised export: Paddle-Lite has no int8 kernels for x86" in said
    # The truth: the refused file really answers something else.
    given = [{"x": np.random.RandomState(seed).rand(1, 3, 32, 32).astype("f4")} for seed in range(3)]
    _, right = asyncio.run(run_reference(find_source(folder), given, Engines()))
    try:
        _, got = asyncio.run(run_reference([x86.path], given, Engines(), version))
    except LitefleetError:
        return  # it does not even run
    pairs = [(next(iter(a.values())), next(iter(b.values()))) for a, b in zip(right, got, strict=True)]
    assert max(np.abs(np.nan_to_num(b, nan=9.0) - a).max() for a, b in pairs) > 0.05
