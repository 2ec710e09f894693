"""A machine with nothing but the package index: litefleet's own CPython takes a Paddle-Lite wheel that is for another one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import convert
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.build.golden.make import run_reference
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.common.errors import FindingError
from litefleet_controller.config.choices import DEFAULT_PADDLELITE

from tests.conftest import CACHE


def without_pythons(folder: Path) -> dict[str, str]:
    """Return an environment in which neither PATH nor pyenv nor uv has a CPython, and uv may download none."""
    hidden = {"PATH": str(folder), "PYENV_ROOT": str(folder), "UV_PYTHON_INSTALL_DIR": str(folder / "pythons")}
    return {**os.environ, **hidden, "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture
def both(tmp_path: Path) -> tuple[Toolchains, Toolchains]:
    """The toolchains of a machine without a CPython for the wheel, and of one with it; both are kept between runs."""
    name = f"foreign-{sys.version_info[0]}.{sys.version_info[1]}"
    return Toolchains(CACHE / name, environ=without_pythons(tmp_path)), Toolchains(CACHE / "toolchains")


@pytest.mark.toolchain
async def test_the_files_are_those_of_the_wheels_own_converter(
    tmp_path: Path, models: dict[str, Path], both: tuple[Toolchains, Toolchains]
) -> None:
    made = await both[0].lite()
    status = await both[0].lite_status()
    assert status.ready
    assert list(made.python.parent.parent.glob(f"lib/python3.{sys.version_info[1]}/site-packages/paddlelite/lite.so"))
    source = load_source(models["cls"])
    stores = [ArtifactStore(tmp_path / name) for name in ("foreign", "usual")]
    for variant in (
        make_variant(source.sha256, "x86"),
        make_variant(source.sha256, "arm", quant="int8"),
        make_variant(source.sha256, "arm", fp16=True),
    ):
        one, two = [await convert(source, variant, tools, store) for tools, store in zip(both, stores, strict=True)]
        assert one.sha256 == two.sha256, variant
    unsupported = make_variant(source.sha256, "opencl,arm", fp16=True)
    for tools, store in zip(both, stores, strict=True):  # the converter stops itself
        with pytest.raises(FindingError, match="no type registered for kernel"):
            await convert(source, unsupported, tools, store)


@pytest.mark.toolchain
async def test_the_answers_are_those_of_the_wheels_own_binding(
    both: tuple[Toolchains, Toolchains], nb_files: Callable[..., Path]
) -> None:
    given = {"x": np.full((1, 3, 48, 192), 0.5, np.float32)}
    (_, (one,)), (_, (two,)) = [
        await run_reference((nb_files("cls", "x86"),), [given], tools, DEFAULT_PADDLELITE) for tools in both
    ]
    assert one.keys() == two.keys() != set()
    assert all(np.allclose(one[name], two[name], atol=1e-6) for name in one)
